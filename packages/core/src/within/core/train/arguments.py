"""Arguments of `fit` that no run could make sense of, refused before anything is done."""

from __future__ import annotations

from typing import Any

from torch import nn

from within.core.errors import WithinError
from within.core.train.finite import require_finite


def check_arguments(
    model: nn.Module,
    iterations: int,
    seed: int,
    checkpoint_every: int,
    ema: float | None,
    validate: Any,
    validate_every: int | None,
    teacher: nn.Module | None,
    objective: Any,
    loss: Any,
) -> None:
    """Checks what can be checked without data.

    Raises:
        WithinError: for a number out of range, arguments that exclude or need each other, or NaN in weights.
    """
    for name, value, least in (
        ("iterations", iterations, 1),
        ("seed", seed, 0),
        ("checkpoint_every", checkpoint_every, 1),
        ("validate_every", 1 if validate_every is None else validate_every, 1),
    ):
        if value < least:
            raise WithinError(f"{name} is {value}", todo=f"pass at least {least}")
    if ema is not None and not 0 < ema < 1:
        raise WithinError(f"ema is {ema}", todo="pass a decay between 0 and 1, such as 0.999")
    if validate_every is not None and validate is None:
        raise WithinError("validate_every is given but validate is not", todo="pass validate= as well")
    if teacher is model:
        raise WithinError("The teacher is the model itself", todo="pass a copy made before the model was compressed")
    if objective is not None and (loss is not None or teacher is not None):
        raise WithinError("objective replaces loss, teacher and distillation", todo="pass one or the other")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise WithinError("The model has no parameter that could be trained", where=type(model).__name__)
    require_finite(model)
    if teacher is not None:
        require_finite(teacher, what="teacher")
