"""What may be tried: a space suggests configurations, knows its own text, and finds its spaces by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from analysis.errors import UsageError, unknown_name
from search_spaces.yaml_files import named_files, read_mapping
from trainable.component import Scalar, Suggester
from trainable.config import TrialConfig

SPACES = Path(__file__).parent / "spaces"

PARTS = (
    "backbone",
    "loss",
    "sampler",
    "class_weights",
    "mixing",
    "posthoc",
    "optimizer",
    "schedule",
    "averaging",
    "tta",
    "progressive_resizing",
    "deep_supervision",
    "distillation",
    "contrastive",
    "classifier_retraining",
    "frozen",
    "augment",
    "batch_size",
    "training",
)
"""The keys of a `TrialConfig` that a space decides; the run decides the others."""


class SearchSpace(ABC):
    """What may be tried.

    Attributes:
        name: What it was loaded by.
        source: The file or function that it came from.
        summary: One line for people.
    """

    name: str
    source: str
    summary: str

    @abstractmethod
    def suggest(self, trial: Suggester, base: TrialConfig) -> TrialConfig:
        """Return a configuration whose `PARTS` are drawn from `trial`; the rest is `base`'s.

        Raises:
            UsageError: If what was drawn is no lawful configuration (a Python space's mistake).
        """

    @abstractmethod
    def to_yaml(self) -> str:
        """Return the whole space, nothing inherited, as YAML that `from_yaml` reads; empty for Python's."""

    @abstractmethod
    def parameters_of(self, config: TrialConfig) -> dict[str, Scalar]:
        """Return the parameters under which `suggest` returns the `PARTS` of `config`.

        The rules against double corrections need not be the space's: a starting point brings its own
        `allow`.

        Raises:
            UsageError: If a value lies outside the space; names the keys.
        """

    @abstractmethod
    def widened(self, config: TrialConfig) -> SearchSpace:
        """Return the smallest space that holds this one and the `PARTS` of `config`."""

    @abstractmethod
    def at_random(self) -> SearchSpace:
        """Return the same space with random weights where it asks for trained ones."""

    @abstractmethod
    def with_training(self, **fields: Scalar) -> SearchSpace:
        """Return the same space with these fields of `TrainingConfig` pinned, whatever it says of them.

        Raises:
            UsageError: If a value breaks its law, or the space is a function.
        """

    @abstractmethod
    def require_weights(self) -> None:
        """Refuse, before anything is trained, networks whose trained weights cannot be had.

        Raises:
            TailtuneError: With the way to provide them.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return 16 hex digits that change with whatever changes a suggestion."""

    @staticmethod
    def from_yaml(text: str, where: str = "space") -> SearchSpace:
        """Return the space that `text` describes.

        Raises:
            UsageError: If it is no plain YAML mapping, or a key, name or range is refused.
        """
        from search_spaces.narrow import read_space

        return read_space(text, where)


@dataclass(frozen=True)
class SpaceEntry:
    """A named space as a list shows it."""

    name: str
    source: str
    summary: str


def list_spaces() -> list[SpaceEntry]:
    """Return the named spaces, by name."""
    return [
        SpaceEntry(name, f"search_spaces/spaces/{path.name}", str(read_mapping(path)[0].get("summary", "")))
        for name, path in named_files(SPACES).items()
    ]


def load_space(name: str) -> SearchSpace:
    """Return a named space, the one in a YAML file, or a Python function's (`module:function`).

    Raises:
        UsageError: If there is none of that name, or it is refused.
    """
    from search_spaces.narrow import read_space
    from search_spaces.python_space import PythonSpace

    known = named_files(SPACES)
    if name in known:
        return read_space(
            known[name].read_text(encoding="utf-8"), name, source=f"search_spaces/spaces/{name}.yaml"
        )
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        _, text = read_mapping(path)
        return read_space(text, name)
    module, colon, function = name.partition(":")
    if colon:
        return PythonSpace.load(module, function)
    refused = unknown_name("space", name, known)
    raise UsageError(refused.message, f"{refused.remedy}; or give a YAML file, or module:function")
