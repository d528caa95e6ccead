"""Transposed convolutions as one ordinary convolution for each position of the stride, without scratch memory.

Backends compute a transposed convolution through a matrix with a row for every kernel position, or in another layout
with copies back. With stride s, kernel W, padding p and t = (r + p) mod s, q = (r + p - t) / s, the outputs at
positions s m + r of an axis are

    y[s m + r] = sum over j of x[m + q - j] W[t + s j],

an ordinary convolution by every s-th kernel position, flipped. The s x s results are written into their places in the
output (Shi et al.: Is the deconvolution layer the same as a convolutional layer?, 2016, by sub-pixels without their
shuffle). No multiplication by zero is added; the weights stay the model's own parameter, read through views.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import fx, nn

from within.core.transform.choose import choose
from within.core.transform.editable import (
    arguments,
    aten,
    duplicate,
    editable,
    empty_like_with,
    finished,
    is_channels_last,
    kind,
    scaled,
    value,
)
from within.core.transform.lifetimes import resident_workspace


def transposed_convolution(
    model: nn.Module, inputs: Sequence[Any], *, sites: Sequence[str] | None = None
) -> fx.GraphModule:
    """Returns the model with transposed 2-d convolutions of stride 2 and more rewritten.

    Arguments:
        sites: names of the nodes to rewrite; by default those where the peak, with the workspace of the backend
            included, falls.

    Raises:
        WithinError: when the model cannot be traced.
    """
    module = editable(model, inputs)
    if sites is None:
        sites = transposed_convolution_sites(module, inputs)
    for name in sites:
        node = next(node for node in module.graph.nodes if node.name == name)
        _rewrite(module.graph, node)
    return finished(module)


def transposed_convolution_sites(module: fx.GraphModule, inputs: Sequence[Any]) -> list[str]:
    """Returns the transposed convolutions of an annotated module whose rewriting lowers the resident peak."""

    def apply(choice: dict[str, str]) -> fx.GraphModule:
        trial = duplicate(module)
        for node in list(trial.graph.nodes):
            if node.name in choice:
                _rewrite(trial.graph, node)
        return trial

    sites = {node.name: ("phases",) for node in module.graph.nodes if _is_rewritable(node)}
    return list(choose(apply, sites, inputs, workspace=resident_workspace()))


def _is_rewritable(node: fx.Node) -> bool:
    if kind(node) != "conv_transpose2d":
        return False
    given = arguments(node)
    kernel = value(given["weight"]).shape[2:]
    stride, dilation = _pair(given["stride"]), _pair(given["dilation"])
    return (
        value(node).dim() == 4
        and max(stride) > 1
        and dilation == (1, 1)
        and all(size >= step for size, step in zip(kernel, stride, strict=True))
    )


def _rewrite(graph: fx.Graph, node: fx.Node) -> None:
    given = arguments(node)
    source, weight, bias, groups = given["input"], given["weight"], given["bias"], given["groups"]
    stride, padding = _pair(given["stride"]), _pair(given["padding"])
    grown = _pair(given["output_padding"])
    kernel = tuple(value(weight).shape[2:])
    channels = value(node).shape[1]
    with graph.inserting_before(node):
        image = []
        for axis in range(2):
            size = graph.call_function(aten.sym_size.int, (source, 2 + axis))
            offset = kernel[axis] - 2 * padding[axis] + grown[axis] - stride[axis]
            image.append(scaled(graph, size, stride[axis], offset))
        buffer = empty_like_with(graph, source, channels, image, last=is_channels_last(value(node)))
        for row in range(stride[0]):
            for column in range(stride[1]):
                phases = [
                    _phase(position, *sizes)
                    for position, sizes in zip((row, column), zip(kernel, stride, padding, grown), strict=True)
                ]
                result = _convolve(graph, source, weight, bias, groups, stride, phases)
                target = buffer
                for axis, position in enumerate((row, column)):
                    end = 2**63 - 1
                    target = graph.call_function(aten.slice.Tensor, (target, 2 + axis, position, end, stride[axis]))
                graph.call_function(aten.copy_.default, (target, result))
    node.replace_all_uses_with(buffer)
    graph.erase_node(node)


def _phase(position: int, kernel: int, stride: int, padding: int, grown: int) -> tuple[int, int, int, int]:
    """Returns for the outputs s m + r: the first kernel position, padding, rows of the result to skip and to drop."""
    first = (position + padding) % stride
    shift = (position + padding - first) // stride
    taps = math.ceil((kernel - first) / stride)
    before = taps - 1 - shift
    longer = math.ceil((kernel - 2 * padding + grown - stride - position) / stride)  # rows of the phase beyond x's
    after = longer + shift
    around = max(before, after, taps // 2)  # the last: a kernel may not be larger than the smallest padded image
    return first, around, around - before, around - after


def _convolve(
    graph: fx.Graph,
    source: fx.Node,
    weight: fx.Node,
    bias: fx.Node | None,
    groups: int,
    stride: tuple[int, int],
    phases: Sequence[tuple[int, int, int, int]],
) -> fx.Node:
    filters, flipped = weight, []
    for axis, (first, _, _, _) in enumerate(phases):
        size = value(weight).shape[2 + axis]
        filters = graph.call_function(aten.slice.Tensor, (filters, 2 + axis, first, size, stride[axis]))
        if size - first > stride[axis]:
            flipped.append(2 + axis)
    if flipped:
        filters = graph.call_function(aten.flip.default, (filters, flipped))
    filters = _exchanged(graph, filters, value(weight).shape[0], value(weight).shape[1], groups)
    around = [phase[1] for phase in phases]
    result = graph.call_function(aten.conv2d.default, (source, filters, bias, [1, 1], around, [1, 1], groups))
    for axis, (_, _, skipped, dropped) in enumerate(phases):
        if skipped or dropped:
            end = -dropped if dropped else 2**63 - 1
            result = graph.call_function(aten.slice.Tensor, (result, 2 + axis, skipped, end))
    return result


def _exchanged(graph: fx.Graph, filters: fx.Node, channels: int, per_group: int, groups: int) -> fx.Node:
    """(in, out / groups, ...) -> (out, in / groups, ...)."""
    if groups == 1:
        return graph.call_function(aten.transpose.int, (filters, 0, 1))
    if channels == groups and per_group == 1:
        return filters
    split = graph.call_function(aten.unflatten.int, (filters, 0, [groups, channels // groups]))
    turned = graph.call_function(aten.transpose.int, (split, 1, 2))
    return graph.call_function(aten.flatten.using_ints, (turned, 0, 1))


def _pair(sizes: Any) -> tuple[int, int]:
    found = [sizes] if isinstance(sizes, int) else [int(size) for size in sizes]
    return (found[0], found[0]) if len(found) == 1 else (found[0], found[1])
