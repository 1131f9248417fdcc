"""A trial that answers from a configuration that is already there."""

from __future__ import annotations

from collections.abc import Sequence

from trainable.component import Scalar
from trainable.config import TrialConfig


class Reader:
    """Stands in for an Optuna trial, and keeps every parameter that it was asked for.

    Args:
        config: Where the answers come from.
        whole: Names that are asked with all their choices, as for an enqueued trial that has them.
    """

    def __init__(self, config: TrialConfig, whole: Sequence[str] = ()) -> None:
        self.config = config
        self.parameters: dict[str, Scalar] = {}
        self._fixed_params = dict.fromkeys(whole)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return the configuration's value."""
        return float(self._number(name))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return the configuration's value."""
        return int(self._number(name))

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """Return the configuration's value."""
        return self._answer(name)

    def _number(self, name: str) -> float:
        answer = self._answer(name)
        assert isinstance(answer, int | float)
        return answer

    def _answer(self, name: str) -> Scalar:
        self.parameters[name] = answer = self._read(*name.split("[")[0].split("."))
        return answer

    def _read(self, part: str, *path: str) -> Scalar:
        """Return what `loss.name`, `loss.focal.gamma`, `augment.crop`, `augment.crop.padding` … stand for."""
        value: object = getattr(self.config, part)
        if part == "augment":
            present = {op.name: op for op in self.config.augment}
            if len(path) == 1:
                return path[0] in present
            value = present[path[0]]
        if path:
            value = getattr(value, path[-1])
        assert value is None or isinstance(value, bool | int | float | str)
        return value
