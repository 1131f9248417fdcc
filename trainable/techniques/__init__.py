"""Training techniques: each a family of its own, switched off by `none`, that any trial may add."""

from trainable.techniques._base import Criterion, Off, Seen, Technique, Term, TermContext
from trainable.techniques.classifier_retraining import CLASSIFIER_RETRAINING, Crt
from trainable.techniques.contrastive import CONTRASTIVE, Supervised
from trainable.techniques.deep_supervision import DEEP_SUPERVISION, Stages
from trainable.techniques.distillation import DISTILLATION, Teacher
from trainable.techniques.frozen import FROZEN, Features
from trainable.techniques.progressive_resizing import PROGRESSIVE_RESIZING, Linear

__all__ = [
    "CLASSIFIER_RETRAINING",
    "CONTRASTIVE",
    "DEEP_SUPERVISION",
    "DISTILLATION",
    "FROZEN",
    "PROGRESSIVE_RESIZING",
    "Criterion",
    "Crt",
    "Features",
    "Linear",
    "Off",
    "Seen",
    "Stages",
    "Supervised",
    "Teacher",
    "Technique",
    "Term",
    "TermContext",
]
