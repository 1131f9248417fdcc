"""What a configuration wants of the images is refused before anything is written or trained."""

from __future__ import annotations

from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.folds import resolved_folds
from trainable.teacher import check_teacher
from trainable.techniques import Teacher


def check_data(config: TrialConfig, dataset: ImageDataset, split: Split) -> None:
    """Refuse a teacher of other classes, and more folds than a class can fill.

    Raises:
        UsageError: With the law, the value and the remedy.
        TailtuneError: If a teacher cannot be read.
    """
    resolved_folds(config.data.folds, dataset, split)
    if isinstance(config.distillation, Teacher):
        check_teacher(config.distillation.folder, dataset.class_names)
