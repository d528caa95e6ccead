"""The operators of a traced graph as a runtime sees them: without those that vanish before anything runs.

Views that change nothing, dropout, and everything computed from weights alone are gone; what remains has a canonical
kind, its activation inputs and its constants.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from within.core.graph import Graph
from within.core.graph.operator import Operator, Shape, flatten, tensor_of

ACTIVATIONS = {
    "relu": "relu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "leaky_relu": "leaky_relu",
    "hardsigmoid": "hardsigmoid",
    "hardswish": "hardswish",
    "relu6": "clip",
    "hardtanh": "clip",
    "clamp": "clip",
    "silu": "silu",
    "gelu": "gelu",
    "elu": "elu",
}
_KINDS = {
    "conv1d": "conv",
    "conv2d": "conv",
    "conv3d": "conv",
    "convolution": "conv",
    "conv_transpose1d": "conv_transpose",
    "conv_transpose2d": "conv_transpose",
    "conv_transpose3d": "conv_transpose",
    "linear": "linear",
    "batch_norm": "batch_norm",
    "add": "add",
    "mul": "mul",
    "sub": "sub",
    "div": "div",
    "cat": "concat",
    "concat": "concat",
    "max_pool2d": "max_pool",
    "avg_pool2d": "average_pool",
    "adaptive_avg_pool2d": "adaptive_average_pool",
    "mean": "mean",
    "upsample_nearest2d": "resize",
    "upsample_bilinear2d": "resize",
    "pixel_shuffle": "pixel_shuffle",
    "pad": "pad",
    "constant_pad_nd": "pad",
    "permute": "transpose",
    "transpose": "transpose",
    "chunk": "split",
    "split": "split",
    "split_with_sizes": "split",
    "slice": "slice",
    "narrow": "slice",
    "expand": "expand",
    "expand_as": "expand",
    "view": "reshape",
    "_unsafe_view": "reshape",
    "reshape": "reshape",
    "flatten": "reshape",
    "unflatten": "reshape",
    "unsqueeze": "reshape",
    "squeeze": "reshape",
} | dict.fromkeys(ACTIVATIONS, "activation")
_NOTHING = {"dropout", "feature_dropout", "alpha_dropout", "contiguous", "clone", "alias", "detach", "lift_fresh_copy"}


@dataclass(frozen=True)
class Step:
    """One operator that runs.

    Attributes:
        kind: canonical kind; `aten` for those that no rule names.
        operator: the operator.
        read: names of the values it reads, in the order of its arguments.
        inputs: those that are activations.
        constants: those that are weights, buffers, or computed from them.
        outputs: names of the values it makes.
    """

    kind: str
    operator: Operator
    read: tuple[str, ...]
    inputs: tuple[str, ...]
    constants: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Steps:
    """All steps of a graph.

    Attributes:
        steps: in execution order.
        inputs, outputs: the values that the model takes and returns.
        uses: how often each value is read, once more for each output of the model.
    """

    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    uses: Counter[str]


def read_steps(graph: Graph) -> Steps:
    """Returns the steps of a graph."""
    constant = set(graph.parameters)
    alias: dict[str, str] = {}
    parts = _parts(graph)
    steps: list[Step] = []
    for op in graph.operators:
        if not op.shapes:  # assertions, arithmetic on sizes
            continue
        if op.kind == "getitem":
            continue  # one of several outputs, named by the operator that has them
        read = [alias.get(node.name, node.name) for node in op.tensors]
        if all(name in constant for name in read):
            constant.update(parts.get(op.name, (op.name,)))
        elif op.kind in _NOTHING or _keeps_shape(op):
            alias[op.name] = read[0]
        else:
            activations = tuple(name for name in read if name not in constant)
            weights = tuple(name for name in read if name in constant)
            outputs = parts.get(op.name, (op.name,))
            kind = _KINDS.get(op.kind, "aten")
            steps.append(Step(kind, op, tuple(read), activations, weights, outputs))
    outputs = tuple(alias.get(node.name, node.name) for node in graph.output_nodes)
    uses = Counter(name for step in steps for name in step.inputs)
    uses.update(outputs)
    return Steps(tuple(steps), graph.input_names, outputs, uses)


def aten_call(step: Step, shape: Callable[[str], Shape]) -> tuple[str, list[str]]:
    """Returns the call of a step's operator as JSON, and the names of the values that it reads.

    The JSON has the operator's overload and its arguments: tensors by their position among the names, numbers as in the
    trace, except those that follow the widths.
    """
    names = [*dict.fromkeys(step.inputs), *dict.fromkeys(step.constants)]
    read = iter(step.read)

    def plain(value: Any) -> Any:
        if isinstance(value, fx.Node):
            return {"tensor": names.index(next(read))} if tensor_of(value) is not None else None
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        return value if isinstance(value, (int, float, str)) else None  # devices and memory formats: the default

    arguments = {name: plain(value) for name, value in step.operator.arguments.items()}
    if step.kind == "conv" and "groups" in arguments:
        arguments["groups"] = shape(step.inputs[0])[1] // shape(step.operator["weight"].name)[1]
    if "normalized_shape" in arguments:
        arguments["normalized_shape"] = list(shape(step.inputs[0])[-len(arguments["normalized_shape"]) :])
    if step.kind == "pad" and len(arguments["pad"]) > 2 * (len(shape(step.inputs[0])) - 2):
        # How many channels of zeros are in front and how many behind does not matter, and depends on which are kept.
        before, after = shape(step.inputs[0]), shape(step.outputs[0])
        position = 2 * (len(before) - 2)
        arguments["pad"][position : position + 2] = [0, after[1] - before[1]]
    return json.dumps({"target": str(step.operator.node.target), "arguments": arguments}, sort_keys=True), names


def _parts(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Returns, for each operator that returns several values, their names: those under which they are taken apart."""
    found: dict[str, tuple[str, ...]] = {}
    for op in graph.operators:
        if isinstance(op.node.meta.get("val"), (tuple, list)):
            taken = {user.args[1]: user.name for user in op.node.users}
            found[op.name] = tuple(taken.get(part, f"{op.name}:{part}") for part in range(len(op.shapes)))
    return found


def _keeps_shape(op: Operator) -> bool:
    if _KINDS.get(op.kind) == "concat":
        return len(op.tensors) == 1
    if _KINDS.get(op.kind) not in ("reshape", "expand") and op.kind not in ("to", "_to_copy", "type_as"):
        return False
    source = next(flatten(list(op.arguments.values())))
    before, after = tensor_of(source), tensor_of(op.node)
    return before is not None and after is not None and (before.shape, before.dtype) == (after.shape, after.dtype)
