"""Post-hoc corrections: what a trained network's logits are changed by, for rare classes. One file each."""

from trainable.posthoc._base import POSTHOC, Classifier, Correction, FittedCorrection, PostHoc

POSTHOC.discover(__name__, list(__path__))

__all__ = ["POSTHOC", "Classifier", "Correction", "FittedCorrection", "PostHoc"]
