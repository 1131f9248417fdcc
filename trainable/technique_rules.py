"""Techniques that cannot work with the rest of a configuration are refused when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.errors import UsageError
from trainable.augment.augmix import consistency_weight
from trainable.backbones import check_parts
from trainable.backbones.anatomy import anatomy
from trainable.posthoc import FittedCorrection
from trainable.techniques import Crt, Features, Stages, Teacher

if TYPE_CHECKING:
    from trainable.config import TrialConfig

HEAD_ONLY = (
    "progressive_resizing",
    "deep_supervision",
    "distillation",
    "contrastive",
    "classifier_retraining",
    "mixing",
    "tta",
)
"""What has nothing to work on where only a head is trained on stored features."""


def check_techniques(config: TrialConfig) -> None:
    """Refuse what a technique cannot do.

    Raises:
        UsageError: With the law, the value and the remedy.
    """
    if isinstance(config.frozen, Features):
        _check_frozen(config, config.frozen)
    if isinstance(config.distillation, Teacher) and not config.distillation.folder:
        raise UsageError(
            "distillation: a teacher must be named, got none",
            "set `distillation: {name: teacher, folder: …}` to a bundle or to the record of a finished trial",
        )
    if isinstance(config.classifier_retraining, Crt):
        _check_retraining(config, config.classifier_retraining)
    if config.training.compile:
        _check_compile(config)
    _check_network(config)


def _check_compile(config: TrialConfig) -> None:
    # The hooks that read a network are part of what is compiled: later passes would be read by the first one's.
    for key in ("deep_supervision", "contrastive"):
        if getattr(config, key).name != "none":
            raise UsageError(
                f"training.compile takes networks that nothing reads from inside, got {key} as well",
                f"set `training.compile: false`, or `{key}: none`",
            )


def _check_frozen(config: TrialConfig, frozen: Features) -> None:
    active = [key for key in HEAD_ONLY if getattr(config, key).name != "none"]
    if consistency_weight(config.augment) > 0.0:
        active.append("augment.augmix.consistency")
    if active:
        raise UsageError(
            f"frozen features train only a head, got {active[0]} as well",
            f"switch `{active[0]}` off, or set `frozen: none`",
        )
    if config.augment and frozen.views == 0:
        raise UsageError(
            "frozen features are augmented in views only, got "
            f"augment {', '.join(op.name for op in config.augment)} with 0 views",
            "set `frozen: {name: features, views: 4}`, or drop `augment`",
        )
    if config.backbone.fusion == "sum":
        raise UsageError(
            "frozen features are fused side by side, got backbone.fusion sum, whose own layers must be trained",
            "set `backbone.fusion: concat`, or `frozen: none`",
        )
    if not config.backbone.trained:
        raise UsageError(
            f"frozen features must come from trained weights, got a random {config.backbone.name}",
            "set `backbone.pretrained` or `backbone.weights`, or `frozen: none`",
        )


def _check_retraining(config: TrialConfig, retraining: Crt) -> None:
    if retraining.first_epochs(config.epochs) < 1:
        raise UsageError(
            "classifier_retraining: both stages must have an epoch, got "
            f"{config.epochs} epochs and a share of {retraining.share:g}",
            "raise the epochs, or lower the share",
        )
    if config.training.early_stopping is not None:
        raise UsageError(
            "classifier_retraining happens in the last epochs, which early stopping may leave out",
            "drop `training.early_stopping`, or set `classifier_retraining: none`",
        )
    if config.posthoc.corrects_imbalance:
        raise UsageError(
            "classifier_retraining ends on balanced classes, which leaves nothing to correct, got "
            f"posthoc {config.posthoc.name}",
            "set `posthoc: none`, or `classifier_retraining: none`",
        )


def _check_network(config: TrialConfig) -> None:
    """Look at the network only where something depends on it: that costs a moment."""
    check_parts(config.backbone)
    name, supervision = config.backbone.name, config.deep_supervision
    if isinstance(supervision, Stages) and anatomy(name).num_stages < supervision.auxiliary:
        raise UsageError(
            f"deep_supervision.auxiliary must be at most the number of stages before the last, "
            f"{anatomy(name).num_stages} in {name}, got {supervision.auxiliary}",
            "lower it, choose a backbone with stages, or set `deep_supervision: none`",
        )
    for key in ("contrastive", "classifier_retraining", "frozen", "posthoc"):
        if getattr(config, key).name != "none" and not anatomy(name).has_classifier:
            raise UsageError(
                f"{key} needs a network with one linear classifier, which {name} has not",
                f"choose another backbone, or set `{key}: none`",
            )
    posthoc = config.posthoc
    if isinstance(posthoc, FittedCorrection) and posthoc.needs_bias and not anatomy(name).has_bias:
        raise UsageError(
            f"posthoc {posthoc.name} needs a network whose last layer has a bias, which that of {name} has not",
            "choose another backbone, `posthoc: tau_norm`, or `posthoc: none`",
        )
    if config.progressive_resizing.active and not anatomy(name).any_size:
        raise UsageError(
            f"progressive_resizing needs a network that takes images of any size, which {name} does not",
            "choose a convolutional backbone, or set `progressive_resizing: none`",
        )
