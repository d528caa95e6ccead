"""Selecting positions: by number, by index tensor, by unbinding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from within.core.graph.coupling import Coupling
from within.core.graph.labels import Component
from within.core.graph.operator import Operator, integer, shape_of, tensor_of
from within.core.graph.rules.table import rule

if TYPE_CHECKING:
    from within.core.graph.rewrite import Rewrite


def _taken(coupling: Coupling, op: Operator, axis: int, position: int) -> list[Component]:
    components = []
    for item in coupling.of(op["self"]):
        if axis not in item.axes:
            components.append(item.moved([a - (a > axis) for a in item.axes]))
        elif len(item.axes) > 1:
            index = tuple(position if a == axis else slice(None) for a in item.axes)
            axes = tuple(a - (a > axis) for a in item.axes if a != axis)
            components.append(Component(axes, item.ids[index]))
    return components


def _resize_select(rewrite: Rewrite, op: Operator) -> None:
    axis = op.axis()
    if rewrite.changed(op["self"], axis):
        position = integer(op["index"]) % shape_of(op["self"])[axis]
        rewrite.set(op, "index", int((rewrite.kept(op["self"], axis) < position).sum()))


@rule("select", storage="view", resize=_resize_select)
def select(coupling: Coupling, op: Operator) -> None:
    """One position of an axis; a channel selected by number stays."""
    axis = op.axis()
    position = integer(op["index"]) % shape_of(op["self"])[axis]
    for item in coupling.of(op["self"]):
        if item.axes == (axis,):
            coupling.sets.freeze(item.ids[position : position + 1], "the channel is selected by number")
    coupling.put(op, _taken(coupling, op, axis, position))


@rule("unbind", storage="view")
def unbind(coupling: Coupling, op: Operator) -> None:
    """All positions of an axis, as separate tensors."""
    axis = op.axis()
    for item in coupling.of(op["self"]):
        if item.axes == (axis,):
            coupling.sets.freeze(item.ids, "single channels are taken apart")
    for position in range(len(op.shapes)):
        coupling.put(op, _taken(coupling, op, axis, position), position)


@rule("index_select")
def index_select(coupling: Coupling, op: Operator) -> None:
    """Positions of one axis by an index tensor: that axis is fixed, the others pass."""
    axis = op.axis()
    coupling.freeze(op["self"], "channels are selected by an index tensor", [axis])
    coupling.freeze(op["index"], "an index tensor")
    coupling.put(op, [item for item in coupling.of(op["self"]) if axis not in item.axes])


@rule("gather", "take_along_dim")
def gather(coupling: Coupling, op: Operator) -> None:
    """One position of an axis for every position of the index tensor, which shares all other axes."""
    axis, source = op.axis(), op["self"]
    index = op["indices" if op.kind == "take_along_dim" else "index"]
    for node in (source, index):
        coupling.freeze(node, "channels are selected by an index tensor", [axis])
        for item in coupling.of(node):
            if axis in item.axes:
                coupling.replace(node, item, None)
    lengths = zip(shape_of(source), shape_of(index), strict=True)
    if any(a != b and min(a, b) > 1 for number, (a, b) in enumerate(lengths) if number != axis):
        for node in (source, index):  # an index tensor of fewer rows takes the first ones
            coupling.freeze(node, "an index tensor of another length")
        return
    coupling.put(op, coupling.broadcast([source, index], op.shape, "an index tensor of fixed channels"))


@rule("index")
def index(coupling: Coupling, op: Operator) -> None:
    """Advanced indexing: indexed axes are fixed, the axes after a run of indexed ones pass."""
    source, indices = op["self"], list(op["indices"])
    shape = shape_of(source)
    indexed = [axis for axis, item in enumerate(indices) if item is not None]
    coupling.freeze(source, "channels are selected by an index tensor", indexed)
    for item in indices:
        coupling.freeze(item, "an index tensor")
    if any(_is_mask(item) for item in indices) or indexed != list(range(indexed[0], indexed[-1] + 1)):
        coupling.freeze(source, "irregular indexing")
        return
    grown = len(op.shape) - (len(shape) - len(indexed))  # axes that the index tensors broadcast to
    components = []
    for item in coupling.of(source):
        if set(item.axes) & set(indexed):
            continue
        components.append(item.moved([a if a < indexed[0] else a - len(indexed) + grown for a in item.axes]))
    coupling.put(op, components)


def _is_mask(index: Any) -> bool:
    tensor = tensor_of(index) if isinstance(index, fx.Node) else None
    return tensor is not None and tensor.dtype == torch.bool


@rule("embedding")
def embedding(coupling: Coupling, op: Operator) -> None:
    """A row of the table for each index: rows are fixed, columns start a group."""
    coupling.freeze(op["weight"], "rows of an embedding table", [0])
    coupling.freeze(op["indices"], "an index tensor")
    columns = coupling.along(op["weight"], 1)
    coupling.source(columns)
    if columns is not None:
        coupling.put(op, [Component((len(op.shape) - 1,), columns)])
