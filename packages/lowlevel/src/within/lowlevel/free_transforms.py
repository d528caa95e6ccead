"""The free transforms as steps of a plan: what changes memory and not the function goes first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from within.core.pruning.plan import Plan, Step
from within.core.transform import TRANSFORMS, optimise_memory

FUNCTION = "within.lowlevel.free_transforms:replay"


def apply_free_transforms(model: nn.Module, inputs: Sequence[Tensor], plan: Plan) -> tuple[nn.Module, Plan]:
    """Returns the transformed network and the plan that continues with the transforms that were kept."""
    result = optimise_memory(model, tuple(inputs))
    if not result.applied:
        return model, plan
    return result.module, plan.with_step(Step(FUNCTION, {"names": list(result.applied)}))


def replay(model: nn.Module, inputs: Sequence[Any], *, names: Sequence[str]) -> nn.Module:
    """Applies named transforms to a freshly built network, in order."""
    network = model
    for name in names:
        network = TRANSFORMS[name](network, tuple(inputs))
    return network
