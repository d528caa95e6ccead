"""Which operators may work on the parts of a concatenation one by one, up to the convolutions that sum them.

From a concatenation, `distribute` follows every reader: an operator that treats channels apart passes the parts on; a
dense convolution ends the way as a sum; another concatenation takes the parts in; a small result (per-channel means)
may be joined after all. If any reader fits nowhere, the concatenation has to stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import fx, nn

from within.core.transform.editable import arguments, aten, is_tensor, kind, place_after, value, writes
from within.core.transform.lifetimes import Lifetimes

CONCATENATIONS = ("cat", "concat", "concatenate")
CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
UNARY = (
    "relu relu6 leaky_relu elu celu selu gelu silu mish sigmoid tanh hardtanh hardswish hardsigmoid softplus exp sqrt "
    "rsqrt reciprocal abs neg square clamp clamp_min clamp_max clone contiguous alias"
).split()
BINARY = "add sub mul div maximum minimum".split()
SPATIAL = (
    "max_pool2d avg_pool2d adaptive_avg_pool2d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d "
    "max_pool1d avg_pool1d adaptive_avg_pool1d"
).split()
REDUCTIONS = "mean sum std var amax amin".split()
SMALL = 64  # a result this many times smaller than the concatenation may be joined


class Placement:
    """Emits calls at the insertion point, or, where `early`, right after the latest of their inputs."""

    def __init__(self, graph: fx.Graph, *, early: bool) -> None:
        self.graph, self.early = graph, early

    def call(self, target: Any, args: Sequence[Any], kwargs: dict[str, Any] | None = None) -> fx.Node:
        """Emits one call."""
        if not self.early:
            return self.graph.call_function(target, tuple(args), kwargs or {})
        inputs: list[fx.Node] = []
        fx.map_arg((tuple(args), kwargs or {}), inputs.append)
        with self.graph.inserting_before(place_after(inputs)):
            return self.graph.call_function(target, tuple(args), kwargs or {})

    def attribute(self, name: str) -> fx.Node:
        """Emits the access of a parameter, or returns the one that is there."""
        for node in self.graph.nodes:
            if node.op == "get_attr" and node.target == name:
                return node
        first = next(node for node in self.graph.nodes if node.op not in ("placeholder", "get_attr"))
        with self.graph.inserting_before(first):
            return self.graph.get_attr(name)


@dataclass(eq=False)
class Distributed:
    """A value known by its parts along an axis.

    Attributes:
        node: the node that made it in one piece.
        axis: the axis of the parts.
        sizes: their lengths.
        build: emits one part.
    """

    node: fx.Node
    axis: int
    sizes: tuple[int, ...]
    build: Callable[[Placement, int], fx.Node]
    _emitted: dict[int, fx.Node] = field(default_factory=dict)

    def part(self, place: Placement, index: int) -> fx.Node:
        """Returns the node of a part, emitted once."""
        if index not in self._emitted:
            self._emitted[index] = self.build(place, index)
        return self._emitted[index]

    def bounds(self, index: int) -> tuple[int, int]:
        """Returns where a part begins and ends along the axis."""
        start = sum(self.sizes[:index])
        return start, start + self.sizes[index]


@dataclass(frozen=True)
class Terminal:
    """A reader at which the parts come together.

    Attributes:
        node: the reader.
        source: what it reads (for "join": what it is).
        way: "sum" of convolutions, "splice" into another concatenation, "join" of a small value.
    """

    node: fx.Node
    source: Distributed
    way: Literal["sum", "splice", "join"]


def distribute(module: fx.GraphModule, found: Lifetimes, node: fx.Node) -> tuple[list[Terminal], list[fx.Node]] | None:
    """Follows the readers of a concatenation.

    Returns:
        the readers that end it and the nodes that are no longer needed, in graph order; None when a reader needs the
        joined tensor, no convolution reads it, or a part is overwritten later.
    """
    parts, axis = list(node.args[0]), _axis(node)  # type: ignore[arg-type]
    if len(parts) < 2 or any(overwritten(found, part) for part in parts):
        return None
    sizes = tuple(int(value(part).shape[axis]) for part in parts)
    if 0 in sizes:  # a convolution of no channels has no result to add
        return None
    root = Distributed(node, axis, sizes, lambda place, index: parts[index])
    known: dict[fx.Node, Distributed] = {node: root}
    terminals: list[Terminal] = []
    joined: set[fx.Node] = set()
    position = found.index[node]
    for reader in [*found.nodes[position + 1 :], next(item for item in module.graph.nodes if item.op == "output")]:
        sources = [known[item] for item in reader.all_input_nodes if item in known and item not in joined]
        if not sources:
            continue
        found_way = _way(reader, sources, module, found)
        if isinstance(found_way, Distributed):
            known[reader] = found_way
        elif found_way is not None:
            terminals.append(Terminal(reader, sources[0], found_way))
        else:
            for source in sources:
                if not _is_small(source.node, node):
                    return None
                terminals.append(Terminal(source.node, source, "join"))
                joined.add(source.node)
    if not any(terminal.way == "sum" for terminal in terminals):
        return None
    return sorted(terminals, key=lambda terminal: found.index[terminal.node]), list(known)


def _way(
    reader: fx.Node, sources: list[Distributed], module: fx.GraphModule, found: Lifetimes
) -> Distributed | Literal["sum", "splice"] | None:
    """Returns how a reader takes the parts: the parts that it makes of them, or the way it ends, or None."""
    source = sources[0]
    axis, name = source.axis, kind(reader)
    if any(other.sizes != source.sizes or other.axis != axis for other in sources):
        return None
    if reader.op == "call_module":
        return _normalised(reader, source, module)
    if name in CONCATENATIONS:
        return "splice" if _axis(reader) == axis and len(sources) == len(reader.all_input_nodes) == 1 else None
    if not isinstance(reader.target, torch._ops.OpOverload):
        return None
    if name in (*CONVOLUTIONS, *TRANSPOSED, "linear"):
        return _convolved(reader, source)
    if name in BINARY and not writes(reader):
        return _combined(reader, {item.node: item for item in sources}, found)
    functional = _functional(reader)
    if functional is None or reader.args[0] is not source.node or len(reader.all_input_nodes) > 1:
        return None
    passes = name in UNARY
    passes |= name in SPATIAL and axis == 1 and value(source.node).dim() == (4 if name.endswith("2d") else 3)
    passes |= name in REDUCTIONS and _reduces_beyond(reader, axis)
    if not passes or not is_tensor(reader):
        return None
    rest, kwargs = reader.args[1:], dict(reader.kwargs)
    return Distributed(
        reader,
        axis,
        source.sizes,
        lambda place, index: place.call(functional, (source.part(place, index), *rest), kwargs),
    )


def _functional(reader: fx.Node) -> Any:
    """Returns the operator without the underscore: parts may be needed as they are, the joined copy was not."""
    if not writes(reader):
        return reader.target
    operand = reader.args[0]
    assert isinstance(operand, fx.Node)
    if len(operand.users) > 1:
        return None
    packet = getattr(aten, kind(reader), None)
    return getattr(packet, getattr(reader.target, "_overloadname", "default"), None)


def _convolved(reader: fx.Node, source: Distributed) -> Distributed | Literal["sum"] | None:
    given = arguments(reader)
    weight, name = given["weight"], kind(reader)
    rank = value(source.node).dim()
    channel_axis = rank - 1 if name == "linear" else 1
    if given["input"] is not source.node or source.axis != channel_axis or not is_tensor(weight):
        return None
    if name != "linear" and rank != value(weight).dim():
        return None
    groups = int(given.get("groups", 1))
    if groups == 1:
        return "sum"
    per_group = sum(source.sizes) // groups
    if name in TRANSPOSED or any(size % per_group for size in source.sizes):
        return None
    out_per_group = value(weight).shape[0] // groups
    sizes = tuple(size // per_group * out_per_group for size in source.sizes)

    def build(place: Placement, index: int) -> fx.Node:
        start = sum(sizes[:index])
        end = start + sizes[index]
        part = source.part(place, index)
        call = dict(given)
        call["input"], call["groups"] = part, source.sizes[index] // per_group
        call["weight"] = place.call(aten.slice.Tensor, (weight, 0, start, end))
        if call["bias"] is not None:
            call["bias"] = place.call(aten.slice.Tensor, (call["bias"], 0, start, end))
        return place.call(reader.target, tuple(call.values()))

    return Distributed(reader, channel_axis, sizes, build)


def _combined(reader: fx.Node, sources: dict[fx.Node, Distributed], found: Lifetimes) -> Distributed | None:
    source = next(iter(sources.values()))
    axis, rank, total = source.axis, value(reader).dim(), sum(source.sizes)
    if value(reader).shape[axis] != total or value(source.node).dim() != rank:
        return None
    operands: list[Callable[[Placement, int], Any]] = []
    for operand in reader.args[:2]:
        if operand in sources:
            operands.append(lambda place, index, of=sources[operand]: of.part(place, index))  # type: ignore[index,misc]
            continue
        other_axis = axis - (rank - value(operand).dim()) if is_tensor(operand) else -1
        if not is_tensor(operand) or other_axis < 0 or value(operand).shape[other_axis] == 1:
            operands.append(lambda place, index, of=operand: of)  # type: ignore[misc]
            continue
        if overwritten(found, operand):  # type: ignore[arg-type]
            return None
        operands.append(
            lambda place, index, of=operand, at=other_axis: place.call(  # type: ignore[misc]
                aten.slice.Tensor, (of, at, *source.bounds(index))
            )
        )
    rest, kwargs = reader.args[2:], dict(reader.kwargs)

    def build(place: Placement, index: int) -> fx.Node:
        both = [operand(place, index) for operand in operands]
        return place.call(reader.target, (*both, *rest), kwargs)

    return Distributed(reader, axis, source.sizes, build)


def _normalised(reader: fx.Node, source: Distributed, module: fx.GraphModule) -> Distributed | None:
    norm = module.get_submodule(str(reader.target))
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or norm.running_mean is None or source.axis != 1:
        return None

    def build(place: Placement, index: int) -> fx.Node:
        part = source.part(place, index)
        tensors = [
            place.call(aten.slice.Tensor, (place.attribute(f"{reader.target}.{name}"), 0, *source.bounds(index)))
            if getattr(norm, name) is not None
            else None
            for name in ("weight", "bias", "running_mean", "running_var")
        ]
        momentum = 0.1 if norm.momentum is None else norm.momentum
        return place.call(aten.batch_norm.default, (part, *tensors, False, momentum, norm.eps, True))

    return Distributed(reader, 1, source.sizes, build)


def _axis(node: fx.Node) -> int:
    return int(arguments(node)["dim"]) % value(node).dim()


def _reduces_beyond(reader: fx.Node, axis: int) -> bool:
    """Whether a reduction goes over axes after the channels alone."""
    given = arguments(reader)
    dims = given.get("dim")
    if not isinstance(dims, (list, tuple)) or not dims:
        return False
    rank = value(reader.args[0]).dim()
    return all(int(dim) % rank > axis for dim in dims)


def _is_small(node: fx.Node, concatenation: fx.Node) -> bool:
    return value(node).numel() * SMALL <= value(concatenation).numel()


def overwritten(found: Lifetimes, part: fx.Node) -> bool:
    """Whether a node after `part` writes into its storage, so that a later reading would see another value."""
    start = found.index.get(part, -1)
    own = set(found.storages[part])
    return any(writes(node) and own & set(found.storages[node]) for node in found.nodes[start + 1 :])
