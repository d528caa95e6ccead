"""Knowledge distillation for classification (Hinton, Vinyals, Dean, 2015):

    L = (1 - a) CE + a T^2 KL(softmax(t / T) || softmax(s / T))          (eq. 1; T = 4, a = 0.9)

with the logits s of the student and t of the teacher. T^2 keeps the gradient's size when T changes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError


@dataclass(frozen=True)
class KnowledgeDistillation:
    """Softened Kullback-Leibler divergence from teacher to student; leaves 1 - `weight` to the loss on labels.

    Attributes:
        temperature: T.
        weight: a, in [0, 1].
    """

    temperature: float = 4.0
    weight: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1 or self.temperature <= 0:
            raise WithinError(
                f"Knowledge distillation got weight {self.weight} and temperature {self.temperature}",
                todo="choose a weight in [0, 1] and a positive temperature",
            )

    @property
    def task_weight(self) -> float:
        return 1.0 - self.weight

    def watch(self, student: nn.Module, teacher: nn.Module) -> AbstractContextManager[None]:
        """Observes nothing: the logits are enough."""
        return nullcontext()

    def __call__(
        self,
        student_output: Float[Tensor, "batch classes *positions"],
        teacher_output: Float[Tensor, "batch classes *positions"],
    ) -> Float[Tensor, ""]:
        """Returns T^2 KL, summed over the classes, averaged over batch and positions."""
        student = F.log_softmax(student_output / self.temperature, dim=1)
        teacher = F.log_softmax(teacher_output / self.temperature, dim=1)
        divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)
        return self.temperature**2 * divergence.mean()  # eq. 1, second term
