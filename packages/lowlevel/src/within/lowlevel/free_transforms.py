"""The free transforms as a step of a plan: what changes memory and not the function goes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from within.core import transform
from within.core.plan import Plan, Step

FUNCTION = "within.lowlevel.free_transforms:replay"


def apply_free_transforms(model: nn.Module, inputs: Sequence[Tensor], plan: Plan) -> tuple[nn.Module, Plan]:
    """Returns the transformed network and the plan that continues with the transforms that were kept."""
    result = transform.optimise_memory(model, tuple(inputs))
    if not result.steps:
        return model, plan
    return result.module, plan.with_step(Step(FUNCTION, {"steps": [asdict(step) for step in result.steps]}))


def replay(model: nn.Module, inputs: Sequence[Any], *, steps: Sequence[Mapping[str, Any]]) -> nn.Module:
    """Applies recorded transforms to a freshly built network, in order."""
    recorded = [transform.Step(step["name"], step["arguments"]) for step in steps]
    return transform.replay(model, tuple(inputs), recorded)
