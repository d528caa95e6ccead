"""Output distillation for regression: the student imitates what the teacher returns.

D = mean |s - t| (`l1`) or mean (s - t)^2 (`mse`). It needs no labels: for image restoration it is the best signal
there is when only degraded photographs are at hand.
Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, in its regression form.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from within.core.errors import WithinError

_DISTANCES = {"l1": F.l1_loss, "mse": F.mse_loss}


@dataclass(frozen=True)
class OutputDistillation:
    """Mean distance between the outputs of student and teacher.

    Attributes:
        distance: `l1` or `mse`.
        weight: factor of this term.
        task_weight: factor on the loss against the labels, where there are labels.
    """

    distance: Literal["l1", "mse"] = "l1"
    weight: float = 1.0
    task_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.distance not in _DISTANCES:
            raise WithinError(f"Unknown distance {self.distance!r}", todo=f"choose one of: {', '.join(_DISTANCES)}")

    def watch(self, student: nn.Module, teacher: nn.Module) -> AbstractContextManager[None]:
        """Observes nothing: the outputs are enough."""
        return nullcontext()

    def __call__(self, student_output: Any, teacher_output: Any) -> Tensor:
        """Returns the distance of two tensors, or the sum over the pairs of two equally long sequences of tensors.

        Raises:
            WithinError: when the outputs differ in shape or number.
        """
        if isinstance(student_output, (tuple, list)):
            if not isinstance(teacher_output, (tuple, list)) or len(student_output) != len(teacher_output):
                raise WithinError("Student and teacher return different numbers of outputs", where="distillation")
            pairs = zip(student_output, teacher_output, strict=True)
            return sum((self(one, other) for one, other in pairs), start=student_output[0].new_zeros(()))
        if student_output.shape != teacher_output.shape:
            raise WithinError(
                f"The student returns {tuple(student_output.shape)}, the teacher {tuple(teacher_output.shape)}",
                where="output distillation",
                todo="use a teacher with outputs of the same shape",
            )
        return _DISTANCES[self.distance](student_output, teacher_output)
