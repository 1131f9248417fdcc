"""One trial, wholly described: frozen, typed, unknown keys refused; made once at the edge and passed down."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BeforeValidator, Field, model_validator

from analysis.errors import UsageError
from trainable.augment import AUGMENT, AugmentOp, Flips
from trainable.averaging import AVERAGING, Averaging
from trainable.backbones import Backbone
from trainable.class_weights import CLASS_WEIGHTS, ClassWeights
from trainable.component import Choices, Frozen, validated
from trainable.losses import LOSSES, Loss
from trainable.mixing import MIXING, Mixing
from trainable.optimizers import OPTIMIZERS, Optimizer
from trainable.posthoc import POSTHOC, PostHoc
from trainable.samplers import SAMPLERS, BatchSampler
from trainable.schedules import SCHEDULES, Schedule
from trainable.techniques import (
    CLASSIFIER_RETRAINING,
    CONTRASTIVE,
    DEEP_SUPERVISION,
    DISTILLATION,
    FROZEN,
    PROGRESSIVE_RESIZING,
    Technique,
)
from trainable.tta import TTA, ViewSet

Resize = Literal["pad", "stretch", "crop", "keep-scale"]
Folds = Annotated[int, Field(ge=1, le=100)] | Literal["auto"]


def _named(value: object) -> object:
    """Let a bare name stand for a backbone, as it does for every other component."""
    return {"name": value} if isinstance(value, str) else value


class DataConfig(Frozen):
    """Which images there are, split how, at what size; decided for a whole search, recorded with each trial."""

    image_size: tuple[Annotated[int, Field(ge=4, le=4096)], Annotated[int, Field(ge=4, le=4096)]] | None = None
    """Height and width in pixels; None takes the data's own (the median size where it varies)."""
    resize: Resize = "pad"
    flips: Flips = "h"
    """Mirrorings that leave a class what it is; augmentation and test-time augmentation share them."""
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Fixes which images validate; the trial's own seed never does."""
    folds: Folds = 1
    """Cross-validation inside each trial: 1 is a plain split; `auto` takes 2 folds where the smallest class
    has fewer than 3 images (or groups), else 3. `epochs` are each fold's."""
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    test_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share set aside for the final test where the data bring no test split of their own."""
    group_by: str | None = None
    """Regular expression on the path relative to the data; its groups name the unit that is never split."""
    long_tail: Annotated[float, Field(ge=1.0, le=1e6)] | None = None
    """Cut the training images to an exponential profile of this imbalance ratio."""
    long_tail_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Chooses which images stay under `long_tail`."""
    rare_classes: Literal["keep", "merge", "drop"] = "keep"
    """What becomes of classes with fewer than `rare_below` training images: `merge` makes one class of them."""
    rare_below: Annotated[int, Field(ge=1)] = 2
    allow_outside: bool = False
    """Let a manifest's paths leave its folder."""
    verify_content: bool = False
    """Let the data's fingerprint depend on the files' bytes instead of their sizes and times."""
    max_broken: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25
    """A larger share of files that cannot be decoded is an error."""


class TrainingConfig(Frozen):
    """How a step is taken."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` picks once per trial and records what it picked; fp16 trains with a gradient scaler."""
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    """Micro-batches a step: each batch is cut into this many forward and backward passes, or into more where
    those do not fit into the GPU's memory (the record and an exported configuration say how many)."""
    clip_norm: Annotated[float, Field(gt=0.0)] | None = None
    """Largest global L2 norm of the gradient; None does not clip."""
    early_stopping: Annotated[int, Field(ge=1)] | None = None
    """Patience: stop when the validation macro-F1 has not risen by `min_delta` for this many epochs."""
    min_delta: Annotated[float, Field(ge=0.0, le=1.0)] = 1e-4
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """CPU threads; None takes what the process was given. Another number rounds differently, so that an
    exported configuration names what its trial had. No part of the fingerprint."""
    compile: bool = False
    """Training passes go through `torch.compile`: minutes for a first trial, and worth it on GPUs only
    (`benchmarks/speed.md`); frozen features have no such passes. No part of the fingerprint."""
    graphs: bool = True
    """On a GPU, training passes are recorded once and replayed (`trainable/graphs.py`), where nothing looks
    into the network and the memory suffices. No part of the fingerprint."""


_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""libyaml's, where PyYAML was built with it: every trial of a search is written once."""


class TrialConfig(Frozen):
    """Everything that decides what a trial trains, but for the images themselves."""

    name: str = ""
    """A label for people; no part of the fingerprint."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Fixes initialisation, order and augmentation; no part of the fingerprint."""
    allow: tuple[str, ...] = ()
    """Rules that this configuration may break (see `trainable/rules.py`); no part of the fingerprint."""
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    batch_size: Annotated[int, Field(ge=2, le=65_536), Choices((64, 128, 256))] = 128
    """Images a step; batch norm has no variance on a single one."""
    select: Literal["best", "last"] = "best"
    """The epoch whose weights and predictions are the trial's: the best on validation, or the last."""
    data: DataConfig = DataConfig()
    backbone: Annotated[Backbone, BeforeValidator(_named)] = Backbone()
    loss: Annotated[Loss, LOSSES] = LOSSES.parse("cross_entropy")
    class_weights: Annotated[ClassWeights, CLASS_WEIGHTS] = CLASS_WEIGHTS.parse("none")
    sampler: Annotated[BatchSampler, SAMPLERS] = SAMPLERS.parse("natural")
    optimizer: Annotated[Optimizer, OPTIMIZERS] = OPTIMIZERS.parse("sgd")
    schedule: Annotated[Schedule, SCHEDULES] = SCHEDULES.parse("constant")
    averaging: Annotated[Averaging, AVERAGING] = AVERAGING.parse("none")
    augment: tuple[Annotated[AugmentOp, AUGMENT], ...] = ()
    """Operations by name, each at most once; their order does not matter (geometry, colour, masks)."""
    mixing: Annotated[Mixing, MIXING] = MIXING.parse("none")
    progressive_resizing: Annotated[Technique, PROGRESSIVE_RESIZING] = PROGRESSIVE_RESIZING.parse("none")
    deep_supervision: Annotated[Technique, DEEP_SUPERVISION] = DEEP_SUPERVISION.parse("none")
    distillation: Annotated[Technique, DISTILLATION] = DISTILLATION.parse("none")
    contrastive: Annotated[Technique, CONTRASTIVE] = CONTRASTIVE.parse("none")
    classifier_retraining: Annotated[Technique, CLASSIFIER_RETRAINING] = CLASSIFIER_RETRAINING.parse("none")
    frozen: Annotated[Technique, FROZEN] = FROZEN.parse("none")
    training: TrainingConfig = TrainingConfig()
    tta: Annotated[ViewSet, TTA] = TTA.parse("none")
    """Further views of each image, for the stored predictions and the exported model."""
    posthoc: Annotated[PostHoc, POSTHOC] = POSTHOC.parse("none")
    """Correction of the logits towards rare classes, for every epoch's predictions and the saved weights."""

    @model_validator(mode="after")
    def _consistent(self) -> TrialConfig:
        names = [op.name for op in self.augment]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"augment: each operation stands at most once, got '{twice[0]}' twice")
        if self.training.accumulate > self.batch_size:
            raise UsageError(
                "training.accumulate: a batch is cut into at most batch_size parts, "
                f"got {self.training.accumulate} for a batch of {self.batch_size}"
            )
        from trainable.rules import check_rules

        check_rules(self)
        from trainable.technique_rules import check_techniques

        check_techniques(self)
        return self

    def fingerprint(self) -> str:
        """Return 16 hex digits that equal configurations share; seed, name and `allow` do not count."""
        counted = self.model_dump(mode="json", exclude={"seed", "name", "allow"})
        for speed in ("threads", "compile", "graphs"):
            counted["training"].pop(speed)
        counted["augment"] = sorted(counted["augment"], key=lambda op: op["name"])
        return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """Return the configuration as YAML that `from_yaml` reads back unchanged."""
        return yaml.dump(self.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, text: str, where: str = "config") -> TrialConfig:
        """Return the configuration that `text` holds.

        Raises:
            UsageError: If it is no YAML mapping, wants to run code, or breaks a law.
        """
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            problem = str(error).replace("\n", " ")[:200]
            raise UsageError(f"{where}: must be plain YAML: {problem}") from None
        if not isinstance(data, dict):
            raise UsageError(f"{where}: must be a mapping of keys to values, got {type(data).__name__}")
        return validated(cls, data, where)

    @classmethod
    def from_file(cls, path: str | Path) -> TrialConfig:
        """Return the configuration in a YAML or JSON file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read configuration {path}: {error}") from None
        return cls.from_yaml(text, str(path))


__all__ = ["DataConfig", "Resize", "TrainingConfig", "TrialConfig"]
