"""A model in floating point and ranges from elsewhere, as a quantised model of ours; and the ranges of one of ours.

A library with a module for each quantiser rounds what a layer reads and the layer's weight, each layer for itself, and
leaves batch normalisation between them. Here the quantisers stand at the same places, so the same values are rounded:

    y = BN(W_q * x_q + b),    W_q = s_w round(W / s_w)    becomes    y = W'_q * x_q + b',    W' = g W,  s'_w = |g| s_w

with g = gamma / sqrt(var + eps) of each channel: the integers of W stay, or change sign. What differs from the source
is the bias, which is put on the grid of the accumulator (at most half a step of it), as integer kernels need.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from within.core.errors import WithinError
from within.core.plan import Plan, Step, input_specs
from within.core.quantize.bias import input_quantizer, round_biases
from within.core.quantize.exchange.ranges import LayerRanges, RangedState
from within.core.quantize.fake_quantize import FakeQuantize
from within.core.quantize.grid import Grid
from within.core.quantize.insert import ACTIVATIONS, WEIGHTS, Quantized, add_quantizer, quantizer_of
from within.core.quantize.placement import LAYERS, LeftInFloat, Placement, place
from within.core.quantize.quantize import QuantizationResult, QuantizationSettings
from within.core.transform.batch_norm import batch_norm_folding
from within.core.transform.editable import annotate, arguments, finished, kind

FUNCTION = "within.core.quantize.exchange.ranged_model:insert"
Axes = Mapping[str, Sequence[Any]]
"""For each layer whether its input is rounded, and the axis of its weight's scales: -1 for one scale, None for none."""


def quantized_from(
    model: nn.Module, inputs: Sequence[Any], state: RangedState, *, bits: int = 8, ignore: Sequence[str] = ()
) -> QuantizationResult:
    """Returns a quantised model that rounds what the ranges say.

    Arguments:
        model: in floating point, without the other library's modules; not modified. Takes `state.parameters`.
        inputs: example inputs.
        state: from `read` of that library.
        bits: of all its grids.
        ignore: layers and quantisers whose ranges are left out.

    Raises:
        WithinError: when the parameters do not fit, or a range belongs to nothing that the model computes.
    """
    ranges = {name: layer for name, layer in state.layers.items() if name not in ignore}
    for name in state.tensors:
        if name not in ignore:
            raise WithinError(
                "The range belongs to a quantiser that the model calls by itself, not to a layer",
                where=name,
                todo=f"pass ignore=[{name!r}] to leave that tensor in floating point",
            )
    model = copy.deepcopy(model)
    try:
        model.load_state_dict(dict(state.parameters), strict=True)
    except RuntimeError as error:
        raise WithinError(
            f"The parameters do not fit the model: {' '.join(str(error).split())}",
            where=type(model).__name__,
            todo="build the network that the state dict belongs to, with ordinary torch layers",
        ) from error
    axes = {name: [layer.input is not None, _axis(layer.weight)] for name, layer in ranges.items()}
    quantized = _insert(model, inputs, axes, bits)
    module = quantized.module
    own = dict(model.named_parameters())
    for path, readers in quantized.weights.items():
        amax = ranges[readers[0]].weight
        assert amax is not None
        name = f"{readers[0]}.weight".lstrip(".")
        _set(module.get_submodule(path), amax * _factor(module.get_parameter(name), own[name], amax))
    for path, readers in quantized.activations.items():
        amax = ranges[readers[0]].input
        assert amax is not None
        _set(module.get_submodule(path), amax)
    round_biases(module)
    plan = Plan(type(model).__name__, input_specs(inputs), (Step(FUNCTION, {"axes": axes, "bits": bits}),), {})
    settings = QuantizationSettings(bits, bits, "tensorrt", correction="none")
    return QuantizationResult(module, plan, quantized.placement.left, quantized, settings)


def insert(model: nn.Module, inputs: Sequence[Any], axes: Axes, bits: int) -> fx.GraphModule:
    """Returns a model with quantisers of these layers, without ranges: the step that a plan records."""
    return _insert(model, inputs, axes, bits).module


def ranges_of(module: fx.GraphModule) -> RangedState:
    """Returns the parameters and ranges of a quantised model, for `write` of another library.

    Its batch normalisations are folded, so the receiving model is the network without them, its layers with biases.

    Raises:
        WithinError: when an activation has a zero point: quantise for the target `tensorrt`.
    """
    layers: dict[str, LayerRanges] = {}
    for node in module.graph.nodes:
        if kind(node) not in LAYERS:
            continue
        weight, source = quantizer_of(module, arguments(node)["weight"]), input_quantizer(module, node)
        if source is not None and not source.grid.symmetric:
            raise WithinError(
                "Its input has a grid with a zero point, which a single range cannot say",
                where=_name(node),
                todo='quantise with target="tensorrt"',
            )
        tensor = module.get_parameter(str(_behind(arguments(node)["weight"]).target))
        layers[_name(node)] = LayerRanges(
            None if source is None else source.scale.detach() * source.grid.highest,
            None if weight is None else _spread_out(weight, tensor),
        )
    parameters = {
        name: value
        for name, value in module.state_dict().items()
        if not name.startswith((f"{WEIGHTS}.", f"{ACTIVATIONS}."))
    }
    return RangedState(parameters, layers, {})


def _insert(model: nn.Module, inputs: Sequence[Any], axes: Axes, bits: int) -> Quantized:
    module = batch_norm_folding(model, inputs)
    annotate(module, inputs)
    placement = place(module, join=False)
    nodes = _nodes(module, axes)
    result = Quantized(module, placement)
    left = [item for item in placement.left if item.name not in axes]
    for name, node in nodes.items():
        rounds_input, axis = axes[name]
        if axis is not None:
            weight = arguments(node)["weight"]
            path = f"{WEIGHTS}.{str(weight.target).replace('.', '_')}"
            grid = Grid(bits, narrow=False, axis=None if axis < 0 else axis)
            shape = () if axis < 0 else (int(weight.meta["val"].shape[axis]),)
            add_quantizer(module, weight, path, FakeQuantize(grid, shape))
            result.weights[path] = (name,)
        if rounds_input:
            path = f"{ACTIVATIONS}.{node.name}"
            source = node.args[0]
            assert isinstance(source, fx.Node)
            add_quantizer(module, source, path, FakeQuantize(Grid(bits, narrow=False)), readers=[node])
            result.activations[path] = (name,)
    left += [
        LeftInFloat(layer, "layer", "the state dict has no range for it")
        for layer in dict.fromkeys(placement.layers.values())
        if layer not in axes
    ]
    finished(module)
    placed = Placement(tuple(result.activations), placement.weights, placement.layers, tuple(left))
    return Quantized(module, placed, result.weights, result.activations)


def _nodes(module: fx.GraphModule, names: Axes) -> dict[str, fx.Node]:
    """Returns the operator of each layer: by its weight, or for one without weights the first that its module ran."""
    found: dict[str, fx.Node] = {}
    for node in module.graph.nodes:
        name = _name(node) if kind(node) in LAYERS else node.meta.get("module")
        if name in names and name not in found and node.op == "call_function":
            found[name] = node
    for name in names:
        if name not in found:
            raise WithinError(
                "The range belongs to a layer that the model does not compute",
                where=name,
                todo=f"pass ignore=[{name!r}] to leave it out",
            )
    return found


def _name(node: fx.Node) -> str:
    """Returns the path of the module that owns a layer's weight, through the quantiser if it has one."""
    return str(_behind(arguments(node)["weight"]).target).rpartition(".")[0]


def _behind(weight: fx.Node) -> fx.Node:
    source = weight.args[0] if weight.op == "call_module" else weight
    assert isinstance(source, fx.Node)
    return source


def _axis(amax: Tensor | None) -> int | None:
    if amax is None:
        return None
    long = [axis for axis, size in enumerate(amax.shape) if size > 1]
    if len(long) > 1:
        raise WithinError(f"A weight has ranges of shape {tuple(amax.shape)}", todo="use one axis of scales")
    return long[0] if long else -1


def _factor(folded: Tensor, original: Tensor, amax: Tensor) -> Tensor:
    """Returns |g| of each index of the axis along which `amax` varies, in its shape."""
    axes = [axis for axis in range(original.dim()) if amax.dim() != original.dim() or amax.shape[axis] == 1]
    folded, original = folded.detach(), original.detach()
    power = original.double().square().sum(axes, keepdim=True)
    product = (folded.double() * original.double()).sum(axes, keepdim=True)
    factor = torch.where(power > 0, product / torch.where(power > 0, power, 1.0), 1.0).abs()
    off = (folded.double().abs() - factor * original.double().abs()).abs().max()
    if float(off) > 1e-5 * float(folded.abs().max()):
        raise WithinError(
            "Batch normalisation scales the channels that share one range of the weight differently",
            todo="give the weight one range a channel, or ignore this layer",
        )
    return factor.to(amax.dtype).reshape(amax.shape)


def _set(quantizer: nn.Module, amax: Tensor) -> None:
    assert isinstance(quantizer, FakeQuantize)
    scale = amax.detach().float().reshape(quantizer.scale.shape) / quantizer.grid.highest
    quantizer.set_scale(torch.where(scale > 0, scale, torch.ones_like(scale)))


def _spread_out(quantizer: FakeQuantize, weight: Tensor) -> Tensor:
    amax = quantizer.scale.detach() * quantizer.grid.highest
    axis = quantizer.grid.axis
    return amax if axis is None else amax.reshape([-1 if place == axis else 1 for place in range(weight.dim())])
