"""Biases on the grid of the accumulator: int32 with the scale of the input times the scale of the weight.

An integer kernel adds its bias before it scales back, so a bias must be a multiple of s_x s_w (Jacob et al., CVPR 2018,
section 2.4). Rounding it here makes the simulation compute what the kernel will.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from within.core.quantize.fake_quantize import FakeQuantize
from within.core.quantize.insert import quantizer_of
from within.core.quantize.placement import LAYERS, MOVING
from within.core.transform.editable import arguments, kind

LARGEST = 2**31 - 1


def round_biases(module: fx.GraphModule) -> int:
    """Rounds the biases of all layers whose input and weight are quantised, in place; returns how many."""
    count = 0
    for node in module.graph.nodes:
        scale = accumulator_scale(module, node)
        bias_node = arguments(node)["bias"] if scale is not None else None
        if scale is None or bias_node is None or bias_node.op != "get_attr":
            continue
        bias = module.get_parameter(str(bias_node.target))
        with torch.no_grad():
            steps = torch.round(bias.double() / scale.double()).clamp(-LARGEST, LARGEST)
            bias.copy_((steps * scale.double()).to(bias))
        count += 1
    return count


def accumulator_scale(module: fx.GraphModule, node: fx.Node) -> Tensor | None:
    """Returns the step of a layer's sums, shape [] or [channels]; None where the layer is not on integers."""
    if kind(node) not in LAYERS:
        return None
    given = arguments(node)
    weight = quantizer_of(module, given["weight"])
    source = input_quantizer(module, node)
    if weight is None or source is None or not (weight.ready and source.ready) or weight.grid.group_size is not None:
        return None
    if weight.grid.axis is not None and weight.grid.axis != int(kind(node).startswith("conv_transpose")):
        return None  # the weights that one sum adds up have several scales
    return (source.scale * weight.scale).detach()


def input_quantizer(module: fx.GraphModule, node: fx.Node) -> FakeQuantize | None:
    """Returns the quantiser of the tensor that a layer reads, before it was only moved."""
    return quantizer_behind(module, node.args[0])


def quantizer_behind(module: fx.GraphModule, source: Any) -> FakeQuantize | None:
    """Returns the quantiser that made a value, before it was only moved; None where it is on no grid."""
    while isinstance(source, fx.Node):
        found = quantizer_of(module, source)
        if found is not None:
            return found
        if kind(source) not in MOVING:
            return None
        source = source.args[0]
    return None
