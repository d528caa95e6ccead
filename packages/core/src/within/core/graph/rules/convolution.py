"""Convolutions and linear layers: the output axis starts a channel group, the input axis ends one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from within.core.graph.coupling import Coupling
from within.core.graph.labels import Component, Ids, without_axes
from within.core.graph.operator import Operator, integer, shape_of
from within.core.graph.rules.table import ShapeOf, rule

if TYPE_CHECKING:
    from within.core.graph.rewrite import Rewrite


def convolution_macs(op: Operator, shape: ShapeOf, convention: str) -> int:
    """Output positions x (input channels a group) x kernel positions; `thop_2019` adds one for a bias."""
    weight = shape(op["weight"])
    outputs = math.prod(shape(op.node))
    per_output = math.prod(weight[1:])
    if convention == "thop_2019" and op.get("bias") is not None:
        per_output += 1
    return outputs * per_output


def transposed_macs(op: Operator, shape: ShapeOf, convention: str) -> int:
    """Each input position meets the whole kernel; `output_size` counts output positions instead (GAN Compression)."""
    weight = shape(op["weight"])  # (in, out / groups, *kernel)
    source, result = shape(op["input"]), shape(op.node)
    if convention == "exact":
        return math.prod(source) * math.prod(weight[1:])
    groups = _groups(op)
    per_output = weight[0] // groups * math.prod(weight[2:])
    if convention == "thop_2019" and op.get("bias") is not None:
        per_output += 1
    return math.prod(result) * per_output


def linear_macs(op: Operator, shape: ShapeOf, convention: str) -> int:
    """Output elements x input features."""
    return math.prod(shape(op.node)) * shape(op["weight"])[1]


def _groups(op: Operator) -> int:
    return integer(op.get("groups", 1))


def couple_convolution(coupling: Coupling, op: Operator, *, out_axis: int, in_axis: int) -> None:
    """Couples input, weight, bias and output of a (transposed) convolution with any number of groups."""
    source, weight = op["input"], op["weight"]
    channel_axis = _channel_axis(op)
    along_kernel = tuple(range(2, len(shape_of(weight))))
    coupling.freeze(weight, "kernel positions are not channels", along_kernel)
    inputs = coupling.along(source, channel_axis) if not _dealt_out(coupling, op, channel_axis) else None
    others = _other_axes(coupling, op, channel_axis, transposed=out_axis == 1)
    groups = _groups(op)
    in_ids, out_ids = coupling.along(weight, in_axis), coupling.along(weight, out_axis)
    if out_axis == 0:  # weight (out, in / groups, ...)
        outputs = out_ids
        if groups == 1:
            coupling.unite(inputs, in_ids, "input channels of the convolution are fixed")
        else:
            _grouped_inputs(coupling, op, inputs, in_ids, out_ids, groups)
    else:  # transposed: weight (in, out / groups, ...)
        if groups == 1:
            coupling.unite(inputs, in_ids, "input channels of the convolution are fixed")
            outputs = out_ids
        else:
            outputs = _grouped_transposed(coupling, op, inputs, in_ids, out_ids, groups)
    coupling.source(outputs)
    if op.get("bias") is not None:
        outputs = coupling.unite(outputs, coupling.along(op["bias"], 0), "bias of fixed channels")
    if outputs is not None:
        others.append(Component((channel_axis,), outputs))
    coupling.put(op, others)


def _dealt_out(coupling: Coupling, op: Operator, channel_axis: int) -> bool:
    """Settles channels dealt out over the channel axis and a spatial axis on the latter, if the kernel is one there."""
    source = op["input"]
    for component in coupling.of(source):
        if len(component.axes) == 2 and component.axes[0] == channel_axis:
            axis = component.axes[1]
            if shape_of(op["weight"])[axis - channel_axis + 1] == 1 and shape_of(source)[axis] == op.shape[axis]:
                coupling.replace(source, component, coupling.sets.resolve(component, axis))
                return True
    return False


def _other_axes(coupling: Coupling, op: Operator, channel_axis: int, *, transposed: bool) -> list[Component]:
    """Returns the components of the input that pass: those folded into the batch, and those along a spatial axis that
    keeps its length (token mixing, ECA); where the kernel mixes neighbours there, removed ones must count as zeros."""
    source = op["input"]
    before, after, kernel = shape_of(source), op.shape, shape_of(op["weight"])
    passed: list[Component] = []
    for component in coupling.of(source):
        if channel_axis in component.axes:
            continue
        axis = component.axes[-1]
        if component.axes == (0,) and channel_axis == 1:
            passed.append(component)
        elif len(component.axes) == 1 and before[axis] == after[axis] and not transposed:
            if kernel[axis - channel_axis + 1] > 1:
                coupling.mixing.add(op.name)
            passed.append(component)
        else:
            coupling.sets.freeze(component.ids, "channels along a spatial axis of a convolution")
    return passed


def _grouped_inputs(
    coupling: Coupling,
    op: Operator,
    inputs: Ids | None,
    in_ids: Ids | None,
    out_ids: Ids | None,
    groups: int,
) -> None:
    reason = "a grouped convolution of fixed channels"
    if inputs is None or out_ids is None:
        for ids in (inputs, in_ids, out_ids):
            if ids is not None:
                coupling.sets.freeze(ids, reason)
        return
    by_input, by_output = inputs.reshape(groups, -1), out_ids.reshape(groups, -1)
    if by_input.shape[1] == 1 or coupling.grouped == "whole":  # depthwise: input block j with output block j
        if in_ids is not None:
            coupling.sets.freeze(in_ids, "channels inside a group of a convolution cut by whole groups")
        coupling.sets.union(by_input, by_input[:, :1])
        coupling.sets.union(by_output, by_input[:, :1])
    else:  # channel i of every group together, so that groups stay equal
        coupling.sets.union(by_input, by_input[:1])
        if in_ids is not None:
            coupling.sets.union(by_input[0], in_ids)
        coupling.sets.union(by_output, by_output[:1])


def _grouped_transposed(
    coupling: Coupling,
    op: Operator,
    inputs: Ids | None,
    in_ids: Ids | None,
    out_ids: Ids | None,
    groups: int,
) -> Ids | None:
    per_group = op.shape[_channel_axis(op)] // groups
    if inputs is None or in_ids is None or (out_ids is None and per_group > 1):
        for ids in (inputs, in_ids, out_ids):
            if ids is not None:
                coupling.sets.freeze(ids, "a grouped convolution of fixed channels")
        return None
    coupling.sets.union(inputs, in_ids)
    by_input = inputs.reshape(groups, -1)
    if by_input.shape[1] == 1 and per_group == 1:
        return inputs
    if by_input.shape[1] == 1 or coupling.grouped == "whole":
        if out_ids is not None:
            coupling.sets.freeze(out_ids, "channels inside a group of a convolution cut by whole groups")
        coupling.sets.union(by_input, by_input[:, :1])
        return np.repeat(by_input[:, 0], per_group)
    coupling.sets.union(by_input, by_input[:1])
    if out_ids is None:
        coupling.sets.freeze(inputs, "a grouped convolution of fixed channels")
        return None
    return np.tile(out_ids, groups)


def _channel_axis(op: Operator) -> int:
    return 1 if len(shape_of(op["input"])) == len(shape_of(op["weight"])) else 0


def _resize_convolution(rewrite: Rewrite, op: Operator) -> None:
    if _groups(op) > 1:
        rewrite.set(op, "groups", rewrite.shape(op["input"])[_channel_axis(op)] // rewrite.shape(op["weight"])[1])
    rewrite.expand_where_mixed(op, op["input"])


@rule("conv1d", "conv2d", "conv3d", macs=convolution_macs, resize=_resize_convolution)
def convolution(coupling: Coupling, op: Operator) -> None:
    """Convolution with weight (out, in / groups, *kernel)."""
    couple_convolution(coupling, op, out_axis=0, in_axis=1)


def _resize_transposed(rewrite: Rewrite, op: Operator) -> None:
    if _groups(op) > 1:
        rewrite.set(op, "groups", rewrite.shape(op.node)[_channel_axis(op)] // rewrite.shape(op["weight"])[1])


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", macs=transposed_macs, resize=_resize_transposed)
def transposed_convolution(coupling: Coupling, op: Operator) -> None:
    """Transposed convolution with weight (in, out / groups, *kernel)."""
    couple_convolution(coupling, op, out_axis=1, in_axis=0)


@rule("linear", macs=linear_macs, transient="derived")
def linear(coupling: Coupling, op: Operator) -> None:
    """y = x W^T + b: the last axis is the channel axis."""
    source, weight = op["input"], op["weight"]
    last = len(shape_of(source)) - 1
    inputs = coupling.along(source, last)
    coupling.unite(inputs, coupling.along(weight, 1), "input features of the linear layer are fixed")
    outputs = coupling.along(weight, 0)
    coupling.source(outputs)
    if op.get("bias") is not None:
        outputs = coupling.unite(outputs, coupling.along(op["bias"], 0), "bias of fixed channels")
    components = list(without_axes(coupling.of(source), [last]))
    if outputs is not None:
        components.append(Component((last,), outputs))
    coupling.put(op, components)
