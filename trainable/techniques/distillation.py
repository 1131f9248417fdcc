"""Distillation: learn from a finished trial's answers as well."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from trainable.component import Range
from trainable.mixing import Mixed
from trainable.techniques._base import (
    Criterion,
    Seen,
    TeacherNetwork,
    Technique,
    Term,
    TermContext,
    switchable,
)

DISTILLATION = switchable("distillation")


@DISTILLATION.add
class Teacher(Technique):
    """(1 − weight) of the trial's loss plus weight·T² of the divergence from a teacher's softened answers.

    The teacher sees what its student sees, augmented and mixed, normalised and sized as it was itself. Its
    classes have to be the student's, in the same order. Suggested: temperature 2 to 6, weight 0.5 to 0.9.
    Caution: a teacher that was trained on the natural distribution passes its neglect of rare classes on.
    """

    name: Literal["teacher"] = "teacher"
    reference: ClassVar[str] = "Hinton, Vinyals and Dean 2015, arXiv 1503.02531, section 2"
    folder: str = ""
    """A bundle (`tailtune export`), or the record of a finished trial (`STUDY/trials/7`)."""
    temperature: Annotated[float, Field(gt=0.0, le=100.0), Range(1.0, 8.0, log=True)] = 4.0
    weight: Annotated[float, Field(gt=0.0, le=1.0), Range(0.2, 0.9)] = 0.5

    def build_term(self, context: TermContext) -> Term:
        """Return the term with the teacher loaded."""
        return DistillationTerm(context.load_teacher(self.folder), self.temperature, self.weight)


class DistillationTerm(Term):
    """Divergence from a teacher.

    Args:
        teacher: Neither trained nor saved with the student.
        temperature: T.
        weight: Share of the divergence in the loss.
    """

    def __init__(self, teacher: TeacherNetwork, temperature: float, weight: float) -> None:
        super().__init__()
        # In a tuple, so that its weights are no part of this module's.
        self.teacher, self.temperature, self.weight = (teacher,), temperature, weight

    def forward(self, total: Tensor, seen: Seen, batch: Mixed, criterion: Criterion) -> Tensor:
        """Return the weighted mean of `total` and the divergence."""
        divergence = softened_divergence(seen.logits, self.teacher[0](batch.images), self.temperature)
        return (1.0 - self.weight) * total + self.weight * divergence


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T²·KL(teacher ‖ student) `(B,)` of logits `(B, K)` divided by T: gradients keep their size."""
    log_student = (student.float() / temperature).log_softmax(dim=1)
    log_teacher = (teacher.float() / temperature).log_softmax(dim=1)
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).sum(dim=1)
