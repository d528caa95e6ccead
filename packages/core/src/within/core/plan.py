"""`Plan`: the solved decision with its provenance; JSON; replays on a freshly built model.

A plan is a list of steps. A step names a function of this project, `package.module:function`, which takes the model,
its example inputs and the step's arguments and returns the changed model.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from within.core.errors import WithinError
from within.core.files import read_json, write_json

FORMAT = 1


@dataclass(frozen=True)
class Step:
    """One change of the model: the function that makes it, and its arguments (JSON values)."""

    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InputSpec:
    """Shape and type of one example input."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    def zeros(self) -> torch.Tensor:
        """Returns zeros of that shape and type."""
        return torch.zeros(self.shape, dtype=getattr(torch, self.dtype))


@dataclass(frozen=True)
class Plan:
    """A decision that can be carried out again.

    Attributes:
        model: class name of the model it was made for.
        inputs: the example inputs it was traced with.
        steps: what to do, in order.
        provenance: how it came about: versions, budgets, importance, seed.
    """

    model: str
    inputs: tuple[InputSpec, ...]
    steps: tuple[Step, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(self.json())

    def json(self) -> str:
        """Returns the plan as JSON text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)

    def write(self, path: str | Path) -> None:
        """Writes the plan to a JSON file, atomically."""
        write_json(path, {"format": FORMAT, **asdict(self)})

    def with_step(self, step: Step) -> Plan:
        """Returns the plan with one more step."""
        return Plan(self.model, self.inputs, (*self.steps, step), self.provenance)

    def example_inputs(self) -> tuple[torch.Tensor, ...]:
        """Returns example inputs of the recorded shapes, filled with zeros."""
        return tuple(spec.zeros() for spec in self.inputs)


def input_specs(inputs: Sequence[Any]) -> tuple[InputSpec, ...]:
    """Returns the specs of example inputs.

    Raises:
        WithinError: when an input is not a tensor.
    """
    specs = []
    for position, item in enumerate(inputs):
        if not isinstance(item, torch.Tensor):
            raise WithinError(
                f"Example input {position} is a {type(item).__name__}, not a tensor",
                todo="wrap the model so that it takes tensors only",
            )
        specs.append(InputSpec(tuple(item.shape), str(item.dtype).removeprefix("torch.")))
    return tuple(specs)


def read_plan(path: str | Path) -> Plan:
    """Reads a plan from a JSON file.

    Raises:
        WithinError: when the file is missing, not JSON, or not a plan of this format.
    """
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise WithinError(f"The file is not a plan of format {FORMAT}", where=str(path))
    try:
        return Plan(
            value["model"],
            tuple(InputSpec(tuple(item["shape"]), item["dtype"]) for item in value["inputs"]),
            tuple(Step(item["function"], item["arguments"]) for item in value["steps"]),
            value["provenance"],
        )
    except (KeyError, TypeError) as error:
        raise WithinError(f"The plan lacks {error}", where=str(path)) from error


def apply(plan: Plan, model: nn.Module) -> nn.Module:
    """Carries a plan out on a freshly built dense model.

    Raises:
        WithinError: when the model is not the one the plan was made for.
    """
    inputs = plan.example_inputs()
    for step in plan.steps:
        model = _function(step.function)(model, inputs, **step.arguments)
    return model


def _function(name: str) -> Callable[..., nn.Module]:
    module, _, function = name.partition(":")
    if not module.startswith("within."):
        raise WithinError(f"A plan may only call functions of this project, not {name!r}", where="plan.json")
    try:
        found: Callable[..., nn.Module] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise WithinError(
            f"The plan needs {name}, which is not installed ({error})",
            where="plan.json",
            todo=f"install within-{module.split('.')[1]}",
        ) from error
    return found
