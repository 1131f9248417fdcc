"""A finished trial as a teacher: its network behind a door through which its student's images fit."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from analysis.errors import UsageError
from trainable.augment.pipeline import resized
from trainable.bundle import WEIGHTS, Preprocessing, load_model
from trainable.config import TrialConfig
from trainable.data.normalisation import Normalisation
from trainable.precision import wants_channels_last

WEIGHT_FILES = (WEIGHTS, "best.safetensors")
"""Of a bundle, and of a trial's record."""


class Teacher:
    """A network in evaluation mode that takes its student's normalised images.

    Args:
        model: On `device`, laid out as `memory_format` says.
        preprocessing: What the network was trained behind.
        student: How the images that come are normalised.
        device: Where to compute.
        memory_format: Of its images.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        student: Normalisation,
        device: torch.device,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.image_size, self.channels = preprocessing.image_size, preprocessing.channels
        self._layout = memory_format
        self._student = _columns(student.mean, student.std, device)
        self._own = _columns(preprocessing.mean, preprocessing.std, device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return logits `(B, K)` float32 of the student's images `(B, C, H, W)`."""
        images = images.float() * self._student[1] + self._student[0]
        if images.shape[1] != self.channels:
            grey = images.mean(dim=1, keepdim=True)
            images = grey.expand(-1, self.channels, -1, -1)
        images = (resized(images, self.image_size) - self._own[0]) / self._own[1]
        logits: Tensor = self.model(images.contiguous(memory_format=self._layout))
        return logits.float()


def check_teacher(folder: str, class_names: tuple[str, ...]) -> Path:
    """Return the weights file of the teacher in `folder`.

    Args:
        folder: A bundle, or a trial's record.
        class_names: The student's.

    Raises:
        UsageError: If something is missing, or the classes are not the same in the same order.
        TailtuneError: If a file is damaged.
    """
    path = Path(folder).expanduser()
    weights = next((path / name for name in WEIGHT_FILES if (path / name).is_file()), None)
    if weights is None or not (path / "config.yaml").is_file():
        missing = "config.yaml" if weights is not None else f"none of {', '.join(WEIGHT_FILES)}"
        raise UsageError(
            f"distillation.folder must be a bundle or a finished trial's record with its weights, but {path} "
            f"has {'no ' if weights is not None else ''}{missing}",
            "export the teacher first (`tailtune export STUDY --trial N --out DIR`)",
        )
    theirs = Preprocessing.read(path).class_names
    if theirs != class_names:
        strangers = sorted(set(theirs) ^ set(class_names))
        what = f"'{strangers[0]}' is known to one only" if strangers else "their order differs"
        raise UsageError(
            "distillation: teacher and student must have the same classes in the same order, "
            f"got {len(theirs)} and {len(class_names)} ({what})",
            "choose a teacher that was trained on these classes",
        )
    return weights


def load_teacher(
    folder: str, class_names: tuple[str, ...], student: Normalisation, device: torch.device
) -> Teacher:
    """Return the teacher in `folder` for a student with these classes and this normalisation.

    Raises:
        UsageError: As `check_teacher`.
        TailtuneError: If a file is damaged.
    """
    weights = check_teacher(folder, class_names)
    preprocessing = Preprocessing.read(weights.parent)
    model = load_model(TrialConfig.from_file(weights.parent / "config.yaml"), preprocessing, weights)
    size, channels = preprocessing.image_size, preprocessing.channels
    last = wants_channels_last(model, size, channels, device, num_images=0)
    layout = torch.channels_last if last else torch.contiguous_format
    return Teacher(model.to(device).to(memory_format=layout), preprocessing, student, device, layout)


def _columns(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    first, second = (
        torch.tensor(row, device=device, dtype=torch.float32).view(1, -1, 1, 1) for row in (mean, std)
    )
    return first, second
