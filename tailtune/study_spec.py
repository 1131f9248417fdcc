"""study.yaml: everything that it takes to repeat a study, written before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from analysis.atomic import write_atomic
from analysis.errors import TailtuneError
from trainable.augment import Flips
from trainable.component import Frozen, validated
from trainable.config import Resize, TrialConfig

FORMAT = 1
FILE = "study.yaml"
_NOT_IDENTITY = {"format", "id", "created", "versions", "resources", "retention"}


class DataSpec(Frozen):
    """The images, and how they were brought to one size."""

    source: str
    fingerprint: str
    num_images: Annotated[int, Field(ge=0)] = 0
    num_classes: Annotated[int, Field(ge=0)] = 0
    class_counts: dict[str, int] = Field(default_factory=dict)
    """Images per class name."""
    image_size: tuple[int, int] | None = None
    resize: Resize = "pad"
    flips: Flips = "h"
    test_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    group_by: str | None = None


class SplitSpec(Frozen):
    """Which images train and which validate."""

    seed: int = 0
    file: str = "split.npz"


class SpaceSpec(Frozen):
    """What may be tried."""

    name: str
    fingerprint: str
    yaml: str = ""


class BudgetSpec(Frozen):
    """How much is tried, and when a weak trial stops."""

    trials: Annotated[int, Field(ge=1, le=1_000_000)]
    epochs: Annotated[int, Field(ge=1)]
    grace_epochs: Annotated[int, Field(ge=1)] = 1
    """Epochs before ASHA's first rung."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    repeats: Annotated[int, Field(ge=1)] = 1
    """How often one configuration may be evaluated."""


class ResourceSpec(Frozen):
    """What a trial gets, and how many run at a time; may differ at each resume."""

    cpus_per_trial: Annotated[float, Field(ge=0.0)] = 1.0
    gpus_per_trial: Annotated[float, Field(ge=0.0)] = 0.0
    concurrent: Annotated[int, Field(ge=1)] = 1


class RetentionSpec(Frozen):
    """Whose weights stay on the disk."""

    keep_best: Annotated[int, Field(ge=1)] = 5
    """Finished trials that keep their weights; records and predictions of all trials stay."""
    max_bytes: Annotated[int, Field(ge=0)] | None = None
    """Of all finished trials' weights together; the best trial keeps its own whatever they take."""


class StudySpec(Frozen):
    """A study, wholly described."""

    format: Annotated[int, Field(ge=1)] = FORMAT
    id: str = ""
    """Tells this study from another of the same name in one database."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    created: str = ""
    """ISO 8601."""
    data: DataSpec
    split: SplitSpec = SplitSpec()
    space: SpaceSpec
    budget: BudgetSpec
    metric: Literal["macro_f1"] = "macro_f1"
    seed: Annotated[int, Field(ge=0)] = 0
    base: TrialConfig = TrialConfig()
    """What the run decides of every configuration: epochs and image geometry."""
    start_from: tuple[str, ...] = ()
    """Names of the starting points, tried first."""
    resources: ResourceSpec = ResourceSpec()
    retention: RetentionSpec = RetentionSpec()
    versions: dict[str, str] = Field(default_factory=dict)
    storage: str | None = None
    """Where the Optuna study lives, without a password; None is study.db beside this file."""

    @property
    def trial_epochs(self) -> int:
        """Epochs of a whole trial, over all its folds: what ASHA counts."""
        folds = self.base.data.folds
        assert isinstance(folds, int), "a study knows its number of folds"
        return self.budget.epochs * folds

    def write(self, folder: Path) -> None:
        """Write `folder/study.yaml`, whole or not at all."""
        text = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_atomic(folder / FILE, text.encode(), durable=True)

    @classmethod
    def read(cls, folder: Path) -> StudySpec:
        """Return what `folder/study.yaml` says.

        Raises:
            TailtuneError: If there is none, it is damaged, or a newer tailtune wrote it.
        """
        path = folder / FILE
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise _no_study(folder) from None
        except (OSError, UnicodeDecodeError) as error:
            raise TailtuneError(f"cannot read {path}: {error}") from None
        except yaml.YAMLError as error:
            problem = str(error).replace("\n", " ")[:160]
            raise TailtuneError(
                f"{path} is damaged: {problem}", "put back a copy, or begin a new study"
            ) from None
        written = content.get("format") if isinstance(content, dict) else None
        if isinstance(written, int) and written > FORMAT:
            raise TailtuneError(
                f"{path} has format {written}, this tailtune reads up to {FORMAT}",
                "use the tailtune that wrote it, or a newer one",
            )
        try:
            return validated(cls, content, str(path))
        except TailtuneError as error:
            remedy = error.remedy or "put back a copy, or begin a new study"
            raise TailtuneError(error.message, remedy) from None

    def differences(self, other: StudySpec) -> list[str]:
        """Return what makes `other` a different search, as `key: mine, not theirs`; empty where it is the same.

        Resources, retention and versions may differ; they do not decide what is found.
        """
        mine, theirs = (s.model_dump(mode="json", exclude=_NOT_IDENTITY) for s in (self, other))
        return list(_differences(mine, theirs, ""))


def _differences(mine: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str) -> list[str]:
    found = []
    for key in sorted({*mine, *theirs}):
        one, two = mine.get(key), theirs.get(key)
        if isinstance(one, dict) and isinstance(two, dict):
            found += _differences(one, two, f"{prefix}{key}.")
        elif one != two:
            shown = f" {one}, not {two}" if len(f"{one}{two}") < 60 else ""
            found.append(f"{prefix}{key}{shown}")
    return found


def _no_study(folder: Path) -> TailtuneError:
    siblings = sorted(path.parent.name for path in folder.parent.glob(f"*/{FILE}"))
    known = f"known: {', '.join(siblings[:12])}" if siblings else f"there is none in {folder.parent}"
    return TailtuneError(
        f"no study called '{folder.name}' in {folder.parent}", f"{known}; --home says where to look"
    )
