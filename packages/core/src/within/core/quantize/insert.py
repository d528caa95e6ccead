"""Put quantisers into a model: batch normalisation folded, one module for each tensor that gets a grid.

The result is a graph module with the model's own parameter names; the quantisers lie under `weight_quantizers` and
`activation_quantizers`. What they hold (scales, zero points) is part of its state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from within.core.errors import WithinError
from within.core.quantize.fake_quantize import FakeQuantize, LearnedClip, LearnedStep
from within.core.quantize.grid import Grid
from within.core.quantize.placement import LAYERS, MOVING, Placement, is_constant, place
from within.core.transform.batch_norm import batch_norm_folding
from within.core.transform.editable import annotate, arguments, editable, finished, kind, set_parameter

WEIGHTS, ACTIVATIONS = "weight_quantizers", "activation_quantizers"
Target = Literal["cpu", "tensorrt"]
Learned = Literal["none", "step", "clip"]


@dataclass(frozen=True)
class Quantized:
    """A model with quantisers in it.

    Attributes:
        module: the graph module.
        placement: where they are.
        weights, activations: for each quantiser, by its path, the layers that read its tensor ("" where none does).
    """

    module: fx.GraphModule
    placement: Placement
    weights: dict[str, tuple[str, ...]] = field(default_factory=dict)
    activations: dict[str, tuple[str, ...]] = field(default_factory=dict)


def insert(model: nn.Module, inputs: Sequence[Any], **arguments: Any) -> fx.GraphModule:
    """Returns the module of `insert_quantizers`: the step that a plan records."""
    return insert_quantizers(model, inputs, **arguments).module


def insert_quantizers(
    model: nn.Module,
    inputs: Sequence[Any],
    *,
    target: Target = "cpu",
    weight_bits: int | None = 8,
    activation_bits: int | None = 8,
    bits: Mapping[str, Sequence[int]] | None = None,
    weight_group_size: int | None = None,
    per_channel: bool = True,
    keep_float: Sequence[str] = (),
    join: bool = True,
    fold: bool = True,
    learned: Learned = "none",
    biases: bool = False,
) -> Quantized:
    """Puts quantisers, not yet calibrated, into a copy of a model.

    Arguments:
        model: in evaluation mode for the folding; its weights are copied.
        inputs: example inputs.
        target: whose integers the activations use: `cpu` unsigned with a zero point, `tensorrt` signed and symmetric.
        weight_bits, activation_bits: 2 to 8; None leaves them in floating point.
        bits: other bits for some layers, (weight, input activation), by layer path.
        weight_group_size: weights that share a scale within an output channel; None for all of them.
        per_channel: a scale for each output channel.
        keep_float: layers that stay in floating point, by path or pattern.
        join: quantise additions and concatenations too.
        fold: fold batch normalisation into the layers first.
        learned: in training, learn the scales ("step") or, of unsigned activations, the upper end ("clip").
        biases: give every layer a bias.

    Raises:
        WithinError: when the model cannot be traced, a pattern or a layer of `bits` is unknown, or nothing is left
            to quantise.
    """
    module = batch_norm_folding(model, inputs) if fold else editable(model, inputs)
    annotate(module, inputs)
    placement = place(module, keep_float=keep_float, join=join)
    own_bits = _checked_bits(bits or {}, placement)
    if not placement.weights and not placement.activations:
        raise WithinError(
            "There is nothing to quantise in this model",
            where=type(model).__name__,
            todo="look at what was left in floating point with within.core.quantize.place",
        )
    nodes = {node.name: node for node in module.graph.nodes}
    result = Quantized(module, placement)
    if weight_bits is not None:
        for name, axis in placement.weights.items():
            readers = _readers(nodes[name], placement)
            own = max((own_bits[layer][0] for layer in readers if layer in own_bits), default=weight_bits)
            grid = Grid(own, axis=axis if per_channel else None, group_size=weight_group_size if per_channel else None)
            shape = _scale_shape(nodes[name].meta["val"], grid)
            quantizer = LearnedStep(grid, shape) if learned == "step" else FakeQuantize(grid, shape, follow=True)
            path = f"{WEIGHTS}.{str(nodes[name].target).replace('.', '_')}"
            add_quantizer(module, nodes[name], path, quantizer)
            result.weights[path] = readers
    if activation_bits is not None:
        for name in placement.activations:
            readers = _readers(nodes[name], placement)
            own = max((own_bits[layer][1] for layer in readers if layer in own_bits), default=activation_bits)
            path = f"{ACTIVATIONS}.{name}"
            add_quantizer(module, nodes[name], path, _activation_quantizer(target, own, nodes[name], learned))
            result.activations[path] = readers
    finished(module)
    if biases:
        add_missing_biases(module)
    return result


def add_missing_biases(module: fx.GraphModule) -> None:
    """Gives every layer of a quantised module a bias (zero), so that means can be corrected."""
    for node in list(module.graph.nodes):
        if kind(node) not in LAYERS or arguments(node)["bias"] is not None:
            continue
        weight = _parameter_node(node)
        if weight is None:
            continue
        name = str(weight.target).rpartition(".")[0] + ".bias"
        tensor = module.get_parameter(str(weight.target))
        channels = _channels(node, tensor)
        set_parameter(module, name.lstrip("."), torch.zeros(channels, dtype=tensor.dtype))
        with module.graph.inserting_before(node):
            bias = module.graph.get_attr(name.lstrip("."))
        node.args = (*node.args[:2], bias, *node.args[3:])
    module.graph.lint()
    module.recompile()


def quantizer_of(module: fx.GraphModule, node: Any) -> FakeQuantize | None:
    """Returns the quantiser that a node calls, if it calls one."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        found = module.get_submodule(str(node.target))
        return found if isinstance(found, FakeQuantize) else None
    return None


def _parameter_node(layer: fx.Node) -> fx.Node | None:
    """Returns the node that reads a layer's weight, through its quantiser if it has one."""
    weight = arguments(layer)["weight"]
    if weight.op == "call_module":
        weight = weight.args[0]
    return weight if weight.op == "get_attr" else None


def _channels(node: fx.Node, weight: Tensor) -> int:
    if kind(node).startswith("conv_transpose"):
        return int(weight.shape[1] * arguments(node).get("groups", 1))
    return int(weight.shape[0])


def _checked_bits(bits: Mapping[str, Sequence[int]], placement: Placement) -> dict[str, tuple[int, int]]:
    known = set(placement.layers.values())
    for layer in bits:
        if layer not in known:
            raise WithinError(f"No layer is named {layer!r}", where="bits", todo=f"choose from {sorted(known)[:8]}")
    return {layer: (int(pair[0]), int(pair[1])) for layer, pair in bits.items()}


def _readers(node: fx.Node, placement: Placement) -> tuple[str, ...]:
    """Returns the layers that read a value, through operators that only move it."""
    found: dict[str, None] = {}
    pending = list(node.users)
    while pending:
        user = pending.pop(0)
        if user.name in placement.layers:
            found[placement.layers[user.name]] = None
        elif user.op == "call_module" or kind(user) in MOVING:
            pending.extend(user.users)
    return tuple(found)


def _scale_shape(weight: Tensor, grid: Grid) -> tuple[int, ...]:
    if grid.axis is None:
        return ()
    channels = int(weight.shape[grid.axis])
    if grid.group_size is None:
        return (channels,)
    return (channels, -(-weight.numel() // channels // grid.group_size))


def _activation_quantizer(target: Target, bits: int, node: fx.Node, learned: Learned) -> FakeQuantize:
    if target == "tensorrt":
        grid = Grid(bits, symmetric=True, narrow=False)
        return LearnedStep(grid) if learned == "step" else FakeQuantize(grid)
    if target != "cpu":
        raise WithinError(f"There is no target named {target!r}", todo="choose cpu or tensorrt")
    grid = Grid(bits, symmetric=False, signed=False)
    if learned == "clip" and kind(node) in ("relu", "relu6"):
        return LearnedClip(grid)
    return LearnedStep(grid) if learned == "step" else FakeQuantize(grid)


def add_quantizer(
    module: fx.GraphModule,
    node: fx.Node,
    path: str,
    quantizer: FakeQuantize,
    readers: Sequence[fx.Node] | None = None,
) -> None:
    """Lets everything that reads a node, or only some readers, read it through a quantiser under this path."""
    owner = module
    for part in path.split(".")[:-1]:
        if part not in owner._modules:
            owner.add_module(part, nn.Module())
        owner = owner.get_submodule(part)  # type: ignore[assignment]
    quantizer.train(module.training)
    owner.add_module(path.rpartition(".")[2], quantizer)
    place = node.next
    while place.op == "placeholder" or (is_constant(node) and place.op == "get_attr"):
        place = place.next
    with module.graph.inserting_before(place):
        new = module.graph.call_module(path, (node,))
    chosen = [user for user in node.users if user is not new and (readers is None or user in readers)]
    node.replace_all_uses_with(new, delete_user_cb=lambda user: user in chosen)
