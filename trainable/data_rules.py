"""What a configuration wants and cannot have (weights, teacher, folds), refused before anything is written."""

from __future__ import annotations

from trainable.backbones import check_backbone
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.folds import resolved_folds
from trainable.teacher import check_teacher
from trainable.techniques import Teacher


def check_data(config: TrialConfig, dataset: ImageDataset, split: Split) -> None:
    """Refuse weights that cannot be had, a teacher of other classes, and more folds than a class can fill.

    Raises:
        UsageError: With the law, the value and the remedy.
        TailtuneError: If weights or a teacher cannot be read.
    """
    check_backbone(config.backbone)
    resolved_folds(config.data.folds, dataset, split)
    if isinstance(config.distillation, Teacher):
        check_teacher(config.distillation.folder, dataset.class_names)
