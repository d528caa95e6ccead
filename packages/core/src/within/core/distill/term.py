"""What every distillation method is to the training: one weighted term of the loss,

L = prod_i(task_weight_i) * L_task + sum_i weight_i * D_i(student, teacher).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Distillation(Protocol):
    """One term of the loss that compares the student with its teacher.

    Attributes:
        weight: factor of this term.
        task_weight: factor that this method puts on the loss against the labels (1 where the method says nothing).
    """

    @property
    def weight(self) -> float: ...

    @property
    def task_weight(self) -> float: ...

    def watch(self, student: nn.Module, teacher: nn.Module) -> AbstractContextManager[None]:
        """Observes what the method needs of both networks while the context is open."""
        ...

    def __call__(self, student_output: Any, teacher_output: Any) -> Tensor:
        """Returns the term, a scalar, for what the two networks returned on the same inputs."""
        ...
