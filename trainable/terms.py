"""What the techniques of one trial add to its loss, with the taps that they read from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainable.augment.augmix import consistency_weight
from trainable.backbones.taps import Taps
from trainable.config import TrialConfig
from trainable.data.normalisation import Normalisation
from trainable.teacher import load_teacher
from trainable.techniques import Stages, Term, TermContext
from trainable.techniques.consistency import ConsistencyTerm


class Terms:
    """The terms of a trial, in the order in which they are added.

    Distillation comes first: it weighs the trial's own loss against the teacher's, and the others are added.

    Args:
        modules: The terms.
        taps: What they read.
    """

    def __init__(self, modules: Sequence[Term], taps: Taps) -> None:
        self.modules, self.taps = nn.ModuleList(modules), taps
        self.sees_views = any(isinstance(term, ConsistencyTerm) for term in modules)

    @classmethod
    def none(cls, model: nn.Module) -> Terms:
        """Return no terms."""
        return cls((), Taps(model))

    @classmethod
    def build(
        cls,
        config: TrialConfig,
        model: nn.Module,
        class_names: tuple[str, ...],
        normalisation: Normalisation,
        device: torch.device,
    ) -> Terms:
        """Return the terms of `config`; what is drawn comes from torch's global generator.

        Raises:
            TailtuneError: If a teacher cannot be had, or has other classes.
        """
        supervision = config.deep_supervision
        stages = supervision.auxiliary if isinstance(supervision, Stages) else 0
        taps = Taps(model, stages, pooled=config.contrastive.active)
        context = TermContext(
            len(class_names),
            taps.widths,
            taps.pooled_width,
            lambda folder: load_teacher(folder, class_names, normalisation, device),
        )
        built = [
            technique.build_term(context)
            for technique in (config.distillation, config.deep_supervision, config.contrastive)
        ]
        terms = [term for term in built if term is not None]
        consistency = consistency_weight(config.augment)
        if consistency > 0.0:
            terms.append(ConsistencyTerm(consistency))
        found = cls(terms, taps)
        found.modules.to(device)
        return found
