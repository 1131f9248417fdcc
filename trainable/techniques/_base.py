"""What a training technique is: a config that is off by default, and what some of them add to the loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor, nn

from trainable.component import Component
from trainable.mixing import Mixed
from trainable.registry import Registry


@dataclass(frozen=True)
class Seen:
    """What one forward pass shows.

    Attributes:
        logits: `(B, K)` of the batch.
        view_logits: `(B, V, K)` of its further views, or None where there are none.
        stages: Spatial means of the intermediate stages that were asked for, each `(B, C_i)`.
        pooled: What the classifier is fed with, `(B, D)`, or None where nobody asked.
    """

    logits: Tensor
    view_logits: Tensor | None
    stages: tuple[Tensor, ...]
    pooled: Tensor | None


Criterion = Callable[[Tensor], Tensor]
"""The trial's own loss of logits `(B, K)` for the batch at hand: class weights and mixing applied, `(B,)`."""


class Term(nn.Module):
    """Something that a technique adds to the loss; its parameters are trained, saved, and never exported."""

    @abstractmethod
    def forward(self, total: Tensor, seen: Seen, batch: Mixed, criterion: Criterion) -> Tensor:
        """Return the loss of each image, `(B,)`, from the `total` so far.

        Args:
            total: `(B,)`, float32.
            seen: What the network showed.
            batch: Images, targets and partners.
            criterion: The trial's own loss.
        """


class TeacherNetwork(Protocol):
    """A finished network that knows how its student's images are normalised."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits `(B, K)` float32 of the student's images, without gradients."""
        ...


@dataclass(frozen=True)
class TermContext:
    """What a term may need to know when it is built.

    Attributes:
        num_classes: K.
        stage_widths: Channels of each stage that was asked for.
        pooled_width: D, or 0 where nobody asked.
        load_teacher: Returns the network in a folder, fitted to the trial's images.
    """

    num_classes: int
    stage_widths: tuple[int, ...]
    pooled_width: int
    load_teacher: Callable[[str], TeacherNetwork]


class Technique(Component):
    """Config of a technique; `none` is off."""

    name: str

    @property
    def active(self) -> bool:
        """False for `none`."""
        return True

    def build_term(self, context: TermContext) -> Term | None:
        """Return what it adds to the loss, if it does."""
        return None


class Off(Technique):
    """Without this technique."""

    name: Literal["none"] = "none"

    @property
    def active(self) -> bool:
        """False."""
        return False


def switchable(family: str) -> Registry[Technique]:
    """Return a registry that knows `none` already."""
    registry: Registry[Technique] = Registry(family, Technique)
    registry.add(Off)
    return registry
