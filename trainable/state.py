"""Everything that changes while a trial trains, built from its configuration and restored as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from analysis.metrics import Metrics
from trainable.averaging import AVERAGING
from trainable.backbones import build_backbone, input_statistics
from trainable.backbones.cost import count_flops, count_parameters
from trainable.backbones.taps import classifier_of
from trainable.bundle import Preprocessing
from trainable.compiling import compiled
from trainable.config import TrialConfig
from trainable.corrector import Corrected, classifier_in, correct
from trainable.cpu_kernels import quicken
from trainable.data.batches import Batches
from trainable.data.dataset import ImageDataset, Split
from trainable.frozen_features import FeatureBatches, freeze
from trainable.graphs import GraphedForward
from trainable.losses import LossContext
from trainable.losses.cross_entropy import CrossEntropyLoss
from trainable.meter import LossMeter
from trainable.optimizers import parameter_groups, set_lr
from trainable.optimizers.sam import SharpnessAwareConfig
from trainable.posthoc import FittedCorrection
from trainable.precision import Precision, keep_in_fp32
from trainable.precision_choice import resolve_precision
from trainable.samplers import SAMPLERS
from trainable.seeding import derived_seed, seeded
from trainable.step import Stepper
from trainable.techniques import Crt
from trainable.terms import Terms

FEWEST_PASSES = 10
"""In an epoch, from which on a trial whose images grow records each size, for some hundredths of a second."""


class TrialState:
    """Model, loss, optimizer, schedule, average and sampler of one trial.

    Args:
        config: The trial.
        dataset: Its images.
        split: Which of them train and validate.
        device: Where to train.
        saved: A checkpoint of this trial to restore from; what `auto` settings chose then is kept.
        cache_dir: Where what trials share is kept; None keeps it in memory.
        precision: Number format and layout, where they are settled: a trial's folds have them in common.
    """

    def __init__(
        self,
        config: TrialConfig,
        dataset: ImageDataset,
        split: Split,
        device: torch.device,
        saved: Mapping[str, Any] | None = None,
        cache_dir: Path | None = None,
        precision: Precision | None = None,
    ) -> None:
        self.config, self.device = config, device
        retraining = config.classifier_retraining
        self.first_epochs = (
            retraining.first_epochs(config.epochs) if isinstance(retraining, Crt) else config.epochs
        )
        self.in_second_stage, self._peak = False, config.optimizer.lr
        threads = config.training.threads
        if threads is None and saved is not None and device.type == "cpu":
            threads = saved["state"].get("threads")  # as it began: another number rounds differently
        if threads is not None:
            torch.set_num_threads(threads)
        labels = dataset.labels[split.train]
        self.class_counts = np.bincount(labels, minlength=dataset.num_classes)
        self.class_prior = self.class_counts / self.class_counts.sum()
        self.sampler = config.sampler.build(
            labels, dataset.num_classes, self.first_epochs, derived_seed(config.seed, "sampler")
        )
        statistics = input_statistics(config.backbone)
        size = config.data.image_size or dataset.image_size
        channels = dataset.channels if statistics is None else len(statistics[0])
        with seeded(device, config.seed, "initialisation"):
            model = build_backbone(
                config.backbone,
                dataset.num_classes,
                size,
                channels,
                load_trained=saved is None or config.frozen.active,
            )
        if device.type == "cpu":
            quicken(model, config)
        if saved is not None:
            precision = Precision(**saved["state"]["precision"])
        elif precision is None:
            count = len(split.train) + len(split.val)
            precision = resolve_precision(config, model, size, channels, count, device, cache_dir)
        self.precision = precision
        images = Batches(
            dataset,
            split.train,
            config=config,
            device=device,
            precision=self.precision,
            statistics=statistics,
        )
        self.batches: Batches | FeatureBatches = images
        self.preprocessing = Preprocessing(
            image_size=self.batches.image_size,
            resize=config.data.resize,
            image_channels=dataset.channels,
            channels=self.batches.channels,
            mean=self.batches.normalisation.mean,
            std=self.batches.normalisation.std,
            flips=config.data.flips,
            class_names=dataset.class_names,
        )
        # Still on the CPU: a GPU would compile kernels for this one image.
        self.parameters = count_parameters(model)
        self.flops = count_flops(model, self.batches.image_size, self.batches.channels)
        self.model = model.to(device=device, memory_format=self.precision.memory_format)  # type: ignore[call-overload]  # torch's stub lacks it
        if device.type == "cpu" and self.precision.name == "bf16":
            for size in self.batches.sizes:
                keep_in_fp32(model, size, self.batches.channels)
        if config.frozen.active:
            self.model, self.batches = freeze(
                self.model, images, config, dataset, split, self.precision, cache_dir
            )
        with seeded(device, config.seed, "terms"):
            self.terms = Terms.build(
                config, self.model, dataset.class_names, self.batches.normalisation, device
            )
        self.loss = config.loss.build(
            LossContext(self.class_counts, self.sampler.class_distribution(0), self.first_epochs)
        ).to(device)
        self.steps_per_epoch = self.batches.steps_per_epoch(len(labels))
        self.forward: Callable[[Tensor], Tensor] = self.model
        if config.training.compile and not config.frozen.active:
            self.forward = compiled(self.model)
        elif config.training.graphs and self._can_be_recorded():
            self.forward = GraphedForward(self.model, self.precision, config.batch_size)
        self.stepper = self._new_stepper()
        self.schedule = config.schedule.build(self.first_epochs, self.steps_per_epoch)
        self.averager = config.averaging.build(self.model, self.first_epochs, self.steps_per_epoch)
        self._class_weights = self._weights_tensor(config.class_weights.build(self.class_counts))
        if saved is not None:
            self.load_state_dict(saved["state"])

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The stepper's own."""
        return self.stepper.optimizer

    def _can_be_recorded(self) -> bool:
        """Whether passes are alike, and many of a size: nothing looks in, none holds batch norm still."""
        inside = self.config.frozen.active or len(self.terms.modules) > 0
        twice = isinstance(self.config.optimizer, SharpnessAwareConfig)
        grows = len(self.batches.sizes) > 1 and self.steps_per_epoch < FEWEST_PASSES
        return self.device.type == "cuda" and not inside and not twice and not grows

    def _new_stepper(self) -> Stepper:
        """Return a stepper with a fresh optimizer over what is to be trained now."""
        config, trained = self.config, nn.ModuleList((self.model, self.terms.modules))
        return Stepper(
            self.model,
            self.loss,
            config.optimizer.build(parameter_groups(trained, config.optimizer.weight_decay)),
            self.precision,
            accumulate=config.training.accumulate,
            clip_norm=config.training.clip_norm,
            mixes=config.mixing.name != "none",
            device=self.device,
            terms=self.terms,
            forward=self.forward,
        )

    def _begin_second_stage(self, retraining: Crt) -> None:
        """Freeze the features as averaged so far; give the classifier new weights and all that trains it."""
        config, self.in_second_stage = self.config, True
        self.model.load_state_dict(self.averager.evaluated().state_dict())
        self.model.zero_grad(set_to_none=True)  # no optimizer will, of what is frozen: clipping would count it
        classifier = classifier_of(self.model)
        assert classifier is not None, "refused when the configuration was made"
        with seeded(self.device, config.seed, "second stage"):
            classifier.reset_parameters()
        self.model.requires_grad_(False)
        classifier.requires_grad_(True)
        num_epochs = config.epochs - self.first_epochs
        self.sampler = SAMPLERS.parse("balanced").build(
            self.sampler.labels, len(self.class_counts), num_epochs, derived_seed(config.seed, "second sampler")
        )
        self.loss, self._class_weights = CrossEntropyLoss().to(self.device), None
        self.terms = Terms.none(self.model)
        if isinstance(self.forward, GraphedForward):
            self.forward.give_up("the second stage trains the classifier alone")
        self.stepper = self._new_stepper()
        self.schedule = config.schedule.build(num_epochs, self.steps_per_epoch)
        self.averager = AVERAGING.parse("none").build(self.model, num_epochs, self.steps_per_epoch)
        self._peak = config.optimizer.lr * retraining.lr_factor

    def _weights_tensor(self, weights: NDArray[np.float64]) -> Tensor | None:
        if not self.config.class_weights.corrects_imbalance:
            return None
        return torch.as_tensor(weights, dtype=torch.float32, device=self.device)

    def loss_meter(self) -> LossMeter:
        """Return an empty meter for an epoch's losses."""
        scales = self.stepper.scaler.is_enabled()
        return LossMeter(self.device, tolerates_overflow=scales, keeps_images=self.sampler.wants_losses)

    def correct(
        self, model: nn.Module, raw: NDArray[np.float16], dataset: ImageDataset, val: NDArray[np.int64]
    ) -> Corrected | None:
        """Return the post-hoc correction of the epoch's validation logits `raw` `(N, K)`, if there is one."""
        config = self.config.posthoc
        if not isinstance(config, FittedCorrection):
            return None
        classifier = classifier_in(model, self.class_prior, int(self.class_counts.sum()))
        return correct(config, classifier, raw, dataset, val, self.config.data.split_seed)

    def end_epoch(self, metrics: Metrics, losses: LossMeter) -> None:
        """Tell schedule and sampler how the epoch went."""
        self.schedule.observe(metrics.macro_f1)
        if self.sampler.wants_losses:
            self.sampler.observe(*losses.per_image())

    def begin_epoch(self, epoch: int) -> NDArray[np.int64]:
        """Prepare for `epoch` (from 0); return the positions in the training split that it visits, in order."""
        retraining = self.config.classifier_retraining
        if isinstance(retraining, Crt) and epoch >= self.first_epochs and not self.in_second_stage:
            self._begin_second_stage(retraining)
        deferred = epoch < self.config.class_weights.defer * self.first_epochs
        self.stepper.class_weights = None if deferred else self._class_weights
        epoch = self._epoch_of_stage(epoch)
        self.class_prior = self.sampler.class_distribution(epoch)
        self.loss.start_epoch(epoch, self.class_prior)
        # Frozen features are those of evaluation: batch norm, dropout and stochastic depth stand still.
        self.model.train(not self.in_second_stage)
        return self.sampler.epoch_indices(epoch)

    def _epoch_of_stage(self, epoch: int) -> int:
        return epoch - self.first_epochs if self.in_second_stage else epoch

    def set_lr(self, epoch: int, batch: int) -> float:
        """Set learning rate and momentum for step `batch` of `epoch`; return the learning rate."""
        epoch = self._epoch_of_stage(epoch)
        step = epoch * self.steps_per_epoch + batch
        scheduled = self._peak * self.schedule.factor(step)
        lr = self.averager.adjust_lr(epoch, batch / self.steps_per_epoch, scheduled, self._peak)
        set_lr(self.optimizer, lr, self.schedule.momentum(step))
        return lr

    def state_dict(self) -> dict[str, Any]:
        """Return every part's state, as `torch.load(weights_only=True)` reads it back."""
        return {
            "model": self.model.state_dict(),
            "averager": self.averager.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.stepper.scaler.state_dict(),
            "schedule": self.schedule.state_dict(),
            "sampler": self.sampler.state_dict(),
            "loss": self.loss.state_dict(),
            "terms": self.terms.modules.state_dict(),
            "accumulate": self.stepper.accumulate,
            "in_second_stage": self.in_second_stage,
            "precision": {"name": self.precision.name, "channels_last": self.precision.channels_last},
            "threads": torch.get_num_threads(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        retraining = self.config.classifier_retraining
        if isinstance(retraining, Crt) and state["in_second_stage"]:
            self._begin_second_stage(retraining)
        self.model.load_state_dict(state["model"])
        self.averager.load_state_dict(state["averager"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.stepper.scaler.load_state_dict(state["scaler"])
        self.stepper.accumulate = state.get("accumulate", self.stepper.accumulate)
        self.schedule.load_state_dict(state["schedule"])
        self.sampler.load_state_dict(state["sampler"])
        self.loss.load_state_dict(state["loss"])
        self.terms.modules.load_state_dict(state["terms"])
