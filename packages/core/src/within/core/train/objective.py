"""What a training step minimises: the loss against the labels plus the distillation terms.

L = prod_i(task_weight_i) * L_task(net(x), y) + sum_i weight_i * D_i(net(x), teacher(x))
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from within.core.distill import Distillation
from within.core.errors import WithinError

Loss = Callable[[Any, Any], Tensor]
Losses = Mapping[str, Tensor]


class Objective(nn.Module):
    """Computes the named terms of the loss for one batch.

    Arguments:
        loss: `loss(output, target) -> scalar`, or None where only a teacher is imitated.
        teacher: the network to imitate; used in evaluation mode, never changed, no part of checkpoints.
        distillation: the terms that compare with the teacher. Those that are modules are trained along.

    Raises:
        WithinError: when there is nothing to minimise, or distillation and teacher do not go together.
    """

    def __init__(
        self,
        loss: Loss | None,
        teacher: nn.Module | None = None,
        distillation: Distillation | Sequence[Distillation] = (),
    ) -> None:
        super().__init__()
        terms = tuple(distillation) if isinstance(distillation, Sequence) else (distillation,)
        if bool(terms) != (teacher is not None):
            missing = "a teacher" if terms else "a distillation method"
            raise WithinError(f"Distillation needs {missing} as well", todo="pass teacher= and distillation= together")
        if loss is None and not terms:
            raise WithinError("There is nothing to minimise", todo="pass loss=, or teacher= with distillation=")
        self.loss = loss
        self.terms = terms
        self.trained_terms = nn.ModuleList(term for term in terms if isinstance(term, nn.Module))
        self._teacher = _Held(teacher)

    def forward(self, network: nn.Module, inputs: tuple[Any, ...], target: Any) -> Losses:
        """Returns the named terms, already weighted; the training minimises their sum.

        Raises:
            WithinError: when the loss needs a target and the batch has none.
        """
        teacher = self._teacher.module
        with ExitStack() as stack:
            if teacher is not None:
                for term in self.terms:
                    stack.enter_context(term.watch(network, teacher))
            output = _single_precision(network(*inputs))
            if teacher is not None:
                with torch.no_grad():
                    teacher_output = _single_precision(teacher(*inputs))
        losses: dict[str, Tensor] = {}
        if self.loss is not None:
            if target is None:
                raise WithinError(
                    "The batch has no target for the loss",
                    where="training data",
                    todo="let the data return (inputs, target), or leave loss out and imitate a teacher alone",
                )
            weight = 1.0
            for term in self.terms:
                weight *= term.task_weight
            losses["loss_task"] = self.loss(output, target) if weight == 1 else weight * self.loss(output, target)
        for position, term in enumerate(self.terms):
            value = term(output, teacher_output)
            losses[f"loss_distillation_{position}"] = value if term.weight == 1 else term.weight * value
        return losses


def _single_precision(output: Any) -> Any:
    """Returns outputs of a half-precision network as float32: differences to a target must not be rounded."""

    def convert(value: Any) -> Any:
        half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if half else value

    return tree_map(convert, output)


class _Held:
    """Holds the teacher out of sight: not a submodule, and shared, not copied, by the copy that averages weights."""

    def __init__(self, module: nn.Module | None) -> None:
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> _Held:
        return copy.copy(self)
