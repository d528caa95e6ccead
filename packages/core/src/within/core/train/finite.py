"""NaN and infinity found in time and traced to where they came from: a weight, a batch, the teacher, the step size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from within.core.errors import WithinError


def non_finite_tensors(model: nn.Module) -> list[str]:
    """Returns the names of parameters and buffers that hold NaN or infinity."""
    return [
        name
        for name, value in model.state_dict().items()
        if isinstance(value, Tensor) and value.is_floating_point() and not torch.isfinite(value).all()
    ]


def require_finite(model: nn.Module, *, what: str = "model", todo: str | None = None) -> None:
    """Checks all parameters and buffers.

    Raises:
        WithinError: naming the first tensors that hold NaN or infinity.
    """
    names = non_finite_tensors(model)
    if names:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise WithinError(
            f"The weights of the {what} hold NaN or infinity", where=shown, todo=todo or "load sound weights"
        )


def explain_non_finite_loss(
    *,
    iteration: int,
    batch: Any,
    item_names: Sequence[str],
    network: nn.Module,
    teacher: nn.Module | None,
    learning_rate: float,
) -> WithinError:
    """Returns the error for a loss that is NaN or infinite, with the cause as far as it can be told.

    Arguments:
        iteration: counted from 1.
        batch: `(inputs, target)` of the step.
        item_names: names of the batch's items, in order.
        network, teacher: examined for spoilt weights.
        learning_rate: the rate of the step, quoted in the advice.
    """
    what = f"The loss became NaN or infinite at iteration {iteration}"
    for part, value in zip(("input", "target"), batch, strict=False):
        bad = _bad_items(tree_leaves(value))
        if bad:
            names = [item_names[index] for index in bad if index < len(item_names)] or ["the whole batch"]
            return WithinError(
                f"{what} because the {part} holds NaN or infinity",
                where=", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else ""),
                todo="repair or remove these training data",
            )
    if teacher is not None and non_finite_tensors(teacher):
        return WithinError(
            f"{what} because the weights of the teacher hold NaN or infinity",
            where=non_finite_tensors(teacher)[0],
            todo="load sound weights into the teacher",
        )
    spoilt = non_finite_tensors(network)
    return WithinError(
        f"{what} though the data are finite" + ("" if not spoilt else "; an earlier step already spoilt the weights"),
        where=spoilt[0] if spoilt else "loss",
        todo=f"lower the learning rate (it is {learning_rate:.3g}), clip the gradients (clip_gradients=1.0), or resume "
        "from the last checkpoint with one of the two",
    )


def _bad_items(values: Iterable[Any]) -> list[int]:
    bad: set[int] = set()
    for value in values:
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim:
            finite = torch.isfinite(value).flatten(1).all(dim=1) if value.ndim > 1 else torch.isfinite(value)
            bad.update((~finite).nonzero().flatten().tolist())
    return sorted(bad)
