"""Operators that join or take apart tensors: concatenation, stacking, splitting, slicing, padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from within.core.graph.coupling import Coupling
from within.core.graph.labels import Component, Components, component_at
from within.core.graph.operator import Operator, integer, shape_of
from within.core.graph.rules.table import rule

if TYPE_CHECKING:
    from within.core.graph.rewrite import Rewrite


@rule("cat", "concat", "concatenate", "hstack")
def concatenate(coupling: Coupling, op: Operator) -> None:
    """Concatenation: labels follow each other along `dim`, and are united along the other axes."""
    parts = [node for node in op["tensors"] if shape_of(node) != (0,)]
    axis = min(1, len(op.shape) - 1) if op.kind == "hstack" else integer(op["dim"]) % len(op.shape)
    if not any(component_at(coupling.of(node), axis) for node in parts):
        coupling.put(op, coupling.broadcast(parts, op.shape, "concatenated with fixed channels"))
        return
    # Unite everything that does not lie along the axis, part by part.
    joints = [component_at(coupling.of(node), axis) for node in parts]
    axes = tuple(sorted({item for joint in joints if joint is not None for item in joint.axes}))
    arrays = []
    for node, joint in zip(parts, joints, strict=True):
        shape = tuple(shape_of(node)[item] for item in axes)
        if joint is None:
            if axes == (axis,):
                ids = coupling.sets.fresh(shape[0])
                coupling.sets.freeze(ids, "fixed channels in a concatenation")
                arrays.append(ids)
                continue
            ids = coupling.sets.fresh(int(np.prod(shape))).reshape(shape)
            coupling.sets.freeze(ids, "fixed channels in a concatenation")
        else:
            index = tuple(slice(None) if item in joint.axes else None for item in axes)
            ids = np.broadcast_to(joint.ids[index], shape)
        arrays.append(ids)
    joined = Component(axes, np.concatenate(arrays, axis=axes.index(axis)))
    others: list[Component] = []
    for position, node in enumerate(parts):
        for item in coupling.of(node):
            if axis in item.axes:
                continue
            if set(item.axes) & set(axes):
                coupling.sets.freeze(item.ids, "concatenated channels of different layout")
                continue
            same = next((other for other in others if other.axes == item.axes), None)
            if same is None and position == 0:
                others.append(item)
            elif same is not None and same.ids.shape == item.ids.shape:
                coupling.sets.union(same.ids, item.ids)
            else:
                coupling.sets.freeze(item.ids, "concatenated with fixed channels")
    for item in list(others):
        bare = [node for node in parts if component_at(coupling.of(node), item.axes[0]) is None]
        if bare:
            coupling.sets.freeze(item.ids, "concatenated with fixed channels")
            others.remove(item)
    coupling.put(op, [*others, joined])


@rule("stack")
def stack(coupling: Coupling, op: Operator) -> None:
    """Stack: a new axis; channels of the parts stay apart, so the component becomes joint with the new axis."""
    parts, rank = op["tensors"], len(op.shape)
    axis = integer(op["dim"]) % rank
    shifts = [item + (item >= axis) for item in range(rank - 1)]
    moved = [[item.moved([shifts[a] for a in item.axes]) for item in coupling.of(node)] for node in parts]
    components: list[Component] = []
    for item in moved[0]:
        same = [next((other for other in group if other.axes == item.axes), None) for group in moved]
        if any(other is None for other in same):
            coupling.sets.freeze(item.ids, "stacked with fixed channels")
            continue
        axes = tuple(sorted((*item.axes, axis)))
        ids = np.stack([other.ids for other in same if other is not None], axis=axes.index(axis))
        components.append(Component(axes, ids))
    kept = {item.axes for item in moved[0]}
    for group in moved[1:]:
        for item in group:
            if item.axes not in kept:
                coupling.sets.freeze(item.ids, "stacked with fixed channels")
    coupling.put(op, components)


def _stretch(components: Components, axis: int, taken: slice) -> list[Component]:
    """Returns the components of a tensor of which a stretch of one axis is taken."""
    stretched = []
    for item in components:
        if axis in item.axes:
            item = Component(item.axes, item.ids[tuple(taken if a == axis else slice(None) for a in item.axes)])
        stretched.append(item)
    return stretched


def _resize_split(rewrite: Rewrite, op: Operator) -> None:
    if rewrite.changed(op["self"], op.axis()):
        rewrite.replace_split(op, op.axis())


@rule("split_with_sizes", "split", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk", storage="view",
      resize=_resize_split)  # fmt: skip
def split(coupling: Coupling, op: Operator) -> None:
    """Split: each part takes its stretch of labels."""
    axis, start = op.axis(), 0
    for part, shape in enumerate(op.shapes):
        coupling.put(op, _stretch(coupling.of(op["self"]), axis, slice(start, start + shape[axis])), part)
        start += shape[axis]


def _bounds(op: Operator, length: int) -> tuple[int, int, int]:
    """Returns start, end and step of a slice of an axis of this length, all non-negative."""
    if op.kind == "narrow":
        start = integer(op["start"]) % length if op["start"] else 0
        return start, start + integer(op["length"]), 1
    start = 0 if op["start"] is None else integer(op["start"])
    end = length if op["end"] is None else integer(op["end"])
    start = max(0, start + length) if start < 0 else min(start, length)
    end = end + length if end < 0 else min(end, length)
    return start, max(start, end), integer(op["step"])


def _resize_slice(rewrite: Rewrite, op: Operator) -> None:
    axis = op.axis()
    if not rewrite.changed(op["self"], axis):
        return
    start, end, step = _bounds(op, shape_of(op["self"])[axis])
    kept = rewrite.kept(op["self"], axis)
    first, last = int((kept < start).sum()), int((kept < end).sum())
    if step > 1:
        rewrite.replace_by_index(op, axis, np.flatnonzero(np.isin(kept, np.arange(start, end, step))))
    elif op.kind == "narrow":
        rewrite.set(op, "start", first)
        rewrite.set(op, "length", last - first)
    else:
        rewrite.set(op, "start", first)
        rewrite.set(op, "end", last)


@rule("slice", "narrow", storage="view", resize=_resize_slice)
def slice_rule(coupling: Coupling, op: Operator) -> None:
    """Slice: an offset map along one axis."""
    axis = op.axis()
    taken = slice(*_bounds(op, shape_of(op["self"])[axis]))
    coupling.put(op, _stretch(coupling.of(op["self"]), axis, taken))


@rule("getitem", storage="view")
def getitem(coupling: Coupling, op: Operator) -> None:
    """One output of an operator that has several."""
    source, position = op["argument0"], op["argument1"]
    coupling.values[op.name] = coupling.values.get(f"{source.name}:{position}", ())


def _resize_pad(rewrite: Rewrite, op: Operator) -> None:
    pads = [integer(value) for value in op["pad"]]
    rank = len(op.shape)
    for position in range(len(pads) // 2):
        axis = rank - 1 - position
        before, after = pads[2 * position], pads[2 * position + 1]
        if (before or after) and rewrite.changed(op.node, axis):
            kept = rewrite.kept(op.node, axis)
            size = op.shape[axis]
            pads[2 * position] = int((kept < before).sum()) if before > 0 else before
            pads[2 * position + 1] = int((kept >= size - after).sum()) if after > 0 else after
    rewrite.set(op, "pad", pads)


@rule("pad", "constant_pad_nd", resize=_resize_pad)
def pad(coupling: Coupling, op: Operator) -> None:
    """Padding: zeros added along a channel axis are channels of their own, which anything may be added to."""
    pads = [integer(value) for value in op["pad"]]
    rank = len(op.shape)
    constant = op.get("mode", "constant") == "constant"
    amounts = {
        rank - 1 - i: (pads[2 * i], pads[2 * i + 1]) for i in range(len(pads) // 2) if any(pads[2 * i : 2 * i + 2])
    }
    components: list[Component] = []
    for item in coupling.of(op["self"]):
        padded = [axis for axis in item.axes if axis in amounts]
        if not padded:
            components.append(item)
        elif len(item.axes) > 1 or not constant or min(amounts[padded[0]]) < 0:
            coupling.sets.freeze(item.ids, "padded along a channel axis")
        else:
            before, after = amounts[padded[0]]
            ids = [coupling.sets.fresh(before), item.ids, coupling.sets.fresh(after)]
            components.append(Component(item.axes, np.concatenate(ids)))
    coupling.put(op, components)


@rule("tile", "repeat", "repeat_interleave")
def repeat(coupling: Coupling, op: Operator) -> None:
    """Tiling: one label at many positions."""
    shape = shape_of(op["self"])
    if op.kind == "repeat_interleave":
        axis = op["dim"]
        if axis is None or not isinstance(op.get("repeats"), int):
            coupling.freeze(op["self"], "repeat_interleave of a flattened tensor")
            return
        axis %= len(shape)
        components = []
        for item in coupling.of(op["self"]):
            if axis in item.axes:
                ids = np.repeat(item.ids, integer(op["repeats"]), axis=item.axes.index(axis))
                item = Component(item.axes, ids)
            components.append(item)
        coupling.put(op, components)
        return
    repeats = [integer(value) for value in (op.get("repeats") or op.get("dims"))]
    shift = len(op.shape) - len(shape)
    repeats = [1] * (len(op.shape) - len(repeats)) + repeats
    components = []
    for item in coupling.of(op["self"]):
        moved = item.shifted(shift)
        components.append(Component(moved.axes, np.tile(moved.ids, [repeats[axis] for axis in moved.axes])))
    coupling.put(op, components)
