"""Where a graph is quantised: which tensors and weights get a grid, what stays in floating point, and why.

One table says what an integer kernel exists for. An operator of the table reads integers: every tensor that it reads
and the tensor that it makes get a grid, a ReLU after it included. Operators that only move or choose values (views,
slices, padding by zero, max pooling) keep the grid of what they read. Everything else computes in floating point.
(Jacob et al., CVPR 2018, section 2; what ONNX Runtime and TensorRT fuse around a quantise-dequantise pair.)
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import fx, nn

from within.core.errors import WithinError
from within.core.transform.editable import arguments, is_tensor, kind, value

LAYERS = frozenset({"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear"})
JOINING = frozenset({"add", "cat"})
FUSED = frozenset({"relu", "hardtanh", "relu6"})
MOVING = frozenset(
    "max_pool1d max_pool2d max_pool3d view reshape flatten unflatten slice select permute transpose t pad "
    "constant_pad_nd pixel_shuffle pixel_unshuffle unsqueeze squeeze expand repeat clone contiguous split "
    "split_with_sizes chunk unbind index_select channel_shuffle detach alias".split()
)


@dataclass(frozen=True)
class LeftInFloat:
    """An operator that computes in floating point, and why; named by its module, or by itself where it has none."""

    name: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Placement:
    """Where quantisers go.

    Attributes:
        activations: names of the nodes whose value gets a grid.
        weights: names of the parameter nodes that get one, each with its output channel axis.
        layers: for each layer node, its name: the path of its weight's owner.
        left: operators left in floating point.
    """

    activations: tuple[str, ...]
    weights: dict[str, int]
    layers: dict[str, str]
    left: tuple[LeftInFloat, ...]


def place(module: fx.GraphModule, *, keep_float: Sequence[str] = (), join: bool = True) -> Placement:
    """Returns where an annotated graph module (see `transform.editable`) is quantised.

    Arguments:
        module: ATen calls with `node.meta["val"]`.
        keep_float: layers that stay in floating point, by path or pattern (`head`, `layer1.*`).
        join: quantise additions and concatenations too.

    Raises:
        WithinError: when a pattern of `keep_float` names no layer.
    """
    layers = {
        node.name: layer_name(node) for node in module.graph.nodes if kind(node) in LAYERS and _constant_weight(node)
    }
    _check_patterns(keep_float, layers)
    inside: list[fx.Node] = []
    left: list[LeftInFloat] = []
    for node in module.graph.nodes:
        reason = _reason(module, node, layers, keep_float, join)
        if reason is None:
            inside.append(node)
        elif reason:
            left.append(LeftInFloat(_shown(node, layers), kind(node) or node.op, reason))
    for node in _among_float(inside):
        inside.remove(node)
        left.append(LeftInFloat(_shown(node, layers), kind(node), "what it reads and what reads it is in float"))
    points: dict[str, None] = {}
    weights: dict[str, int] = {}
    for node in inside:
        for read in node.all_input_nodes:
            if is_tensor(read) and read.op != "get_attr":
                points[_origin(read).name] = None
        points[_end(node).name] = None
        if node.name in layers:
            weight = arguments(node)["weight"]
            weights[weight.name] = 1 if kind(node).startswith("conv_transpose") else 0
    order = [node.name for node in module.graph.nodes if node.name in points]
    return Placement(tuple(order), weights, layers, tuple(left))


def _shown(node: fx.Node, layers: dict[str, str]) -> str:
    return layers.get(node.name) or node.meta.get("module") or node.name


def _among_float(inside: Sequence[fx.Node]) -> list[fx.Node]:
    """Returns the additions and concatenations that would be integer islands: no gain, and rounding for nothing.

    Such a one reads something that is computed in floating point, and no quantised operator reads it.
    """
    integer = set(inside)
    while True:
        islands = {
            node
            for node in integer
            if kind(node) in JOINING and not all(map(partial(_made_by, integer), node.all_input_nodes))
            if not any(reader in integer for reader in _readers(node))
        }
        if not islands:
            return [node for node in inside if node not in integer]
        integer -= islands


def _made_by(integer: set[fx.Node], node: fx.Node) -> bool:
    """Whether a value comes out of one of these operators, moved or clipped at most."""
    node = _origin(node)
    while kind(node) in FUSED:
        node = _origin(node.all_input_nodes[0])
    return node in integer


def _readers(node: fx.Node) -> Iterator[fx.Node]:
    """Yields the operators that read a value, or what it becomes when it is moved or clipped."""
    for user in node.users:
        if kind(user) in MOVING or kind(user) in FUSED or _is_dropout(user):
            yield from _readers(user)
        else:
            yield user


def layer_name(node: fx.Node) -> str:
    """Returns the path of the module that owns a layer's weight."""
    target = str(arguments(node)["weight"].target)
    return target.rpartition(".")[0] or target


def _constant_weight(node: fx.Node) -> bool:
    weight = arguments(node)["weight"]
    return isinstance(weight, fx.Node) and weight.op == "get_attr"


def _check_patterns(patterns: Sequence[str], layers: dict[str, str]) -> None:
    for pattern in patterns:
        if not any(_matches(name, [pattern]) for name in layers.values()):
            raise WithinError(
                f"No layer is named {pattern!r}",
                where="keep_float",
                todo=f"choose from: {', '.join(list(dict.fromkeys(layers.values()))[:8])}, ...",
            )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern}.") for pattern in patterns)


def _reason(
    module: fx.GraphModule, node: fx.Node, layers: dict[str, str], keep_float: Sequence[str], join: bool
) -> str | None:
    """Returns None for an operator that is quantised, why it is not, or "" for what is no operator by itself."""
    found = kind(node)
    if node.op == "call_module":
        return _reason_of_module(module.get_submodule(str(node.target)))
    if node.op != "call_function" or not is_tensor(node) or found in MOVING:
        return ""
    if not value(node).is_floating_point():
        return ""
    if found in FUSED:
        producer = node.args[0]
        return "" if isinstance(producer, fx.Node) and _end(producer) is node else "an activation that follows no layer"
    if found in LAYERS:
        if node.name not in layers:
            return "its weight is computed in the graph"
        return "named in keep_float" if _matches(layers[node.name], keep_float) else None
    if found in JOINING:
        if not join:
            return "additions and concatenations were to stay in floating point"
        if any(not is_tensor(read) or read.op == "get_attr" for read in node.all_input_nodes):
            return "reads a constant"
        return None if len(node.all_input_nodes) > 1 else "adds a number"
    return "no integer kernel is used for this operator"


def _reason_of_module(module: nn.Module) -> str:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return "a batch normalisation that does not fold into a layer"
    return ""  # dropout: the identity in evaluation


def _origin(node: fx.Node) -> fx.Node:
    """Returns the node that computed a value, before it was only moved."""
    while (kind(node) in MOVING and isinstance(node.args[0], fx.Node)) or _is_dropout(node):
        source = node.args[0]
        assert isinstance(source, fx.Node)
        node = source
    return node


def _is_dropout(node: fx.Node) -> bool:
    return kind(node) in ("dropout", "feature_dropout")


def _end(node: fx.Node) -> fx.Node:
    """Returns the node that ends an integer kernel: a ReLU that alone reads the operator, or the operator itself."""
    if len(node.users) == 1:
        user = next(iter(node.users))
        if kind(user) in FUSED and (kind(node) in LAYERS or kind(node) in JOINING):
            return user
    return node


def is_constant(node: fx.Node) -> bool:
    """Whether a node reads a parameter or buffer."""
    return node.op == "get_attr" and isinstance(node.meta.get("val"), torch.Tensor)
