"""Views and copies that move axes: labels follow numerically, and hard-coded sizes are rewritten after a cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from within.core.graph.coupling import Coupling
from within.core.graph.labels import Component, reshape_components
from within.core.graph.operator import Operator, integer, shape_of
from within.core.graph.rules.table import Resize, rule

if TYPE_CHECKING:
    from within.core.graph.rewrite import Rewrite


def _resize_shape(argument: str) -> Resize:
    def resize(rewrite: Rewrite, op: Operator) -> None:
        sizes = list(op[argument])
        new = rewrite.shape(op.node)
        for axis, size in enumerate(sizes):
            if size == -1 or new[axis] == op.shape[axis]:
                continue
            if isinstance(size, int):
                sizes[axis] = new[axis]
            elif -1 not in sizes and op.kind != "expand":
                sizes[axis] = -1  # computed from a symbolic size and a number of channels
        rewrite.set(op, argument, sizes)

    return resize


@rule("view", "_unsafe_view", storage="maybe_view", resize=_resize_shape("size"))
@rule("reshape", storage="maybe_view", resize=_resize_shape("shape"))
@rule("view_as", "reshape_as", "flatten", storage="maybe_view")
def reshape(coupling: Coupling, op: Operator) -> None:
    """Reshape in row-major order."""
    source = op["self"]
    coupling.put(op, reshape_components(coupling.of(source), shape_of(source), op.shape, coupling.sets))


def _resize_unflatten(rewrite: Rewrite, op: Operator) -> None:
    axis = op.axis()
    sizes = list(op["sizes"])
    new = rewrite.shape(op.node)
    for position, size in enumerate(sizes):
        if isinstance(size, int) and size != -1:
            sizes[position] = new[axis + position]
    rewrite.set(op, "sizes", sizes)


@rule("unflatten", storage="maybe_view", resize=_resize_unflatten)
def unflatten(coupling: Coupling, op: Operator) -> None:
    """One axis becomes several."""
    source = op["self"]
    coupling.put(op, reshape_components(coupling.of(source), shape_of(source), op.shape, coupling.sets))


@rule("permute", storage="view")
def permute(coupling: Coupling, op: Operator) -> None:
    """Axes in a new order."""
    rank = len(op.shape)
    order = [integer(axis) % rank for axis in op["dims"]]
    coupling.put(op, [item.moved([order.index(axis) for axis in item.axes]) for item in coupling.of(op["self"])])


@rule("transpose", "swapaxes", "swapdims", "t", "numpy_T", "mT", storage="view")
def transpose(coupling: Coupling, op: Operator) -> None:
    """Two axes exchanged (`numpy_T`: all axes reversed)."""
    rank = len(op.shape)
    if op.kind == "numpy_T":
        coupling.put(op, [item.moved([rank - 1 - axis for axis in item.axes]) for item in coupling.of(op["self"])])
        return
    if op.kind in ("t", "mT"):
        first, second = max(rank - 2, 0), max(rank - 1, 0)
    else:
        names = ("dim0", "dim1") if "dim0" in op.arguments else ("axis0", "axis1")
        first, second = (integer(op[name]) % rank for name in names)
    swap = {first: second, second: first}
    coupling.put(op, [item.moved([swap.get(axis, axis) for axis in item.axes]) for item in coupling.of(op["self"])])


@rule("movedim", "moveaxis", storage="view")
def movedim(coupling: Coupling, op: Operator) -> None:
    """Axes moved to new places, the others in order."""
    rank = len(op.shape)

    def axes(value: object) -> list[int]:
        return [integer(item) % rank for item in (value if isinstance(value, (list, tuple)) else [value])]

    source, target = axes(op["source"]), axes(op["destination"])
    order: list[int | None] = [None] * rank
    for old, new in zip(source, target, strict=True):
        order[new] = old
    rest = iter(axis for axis in range(rank) if axis not in source)
    full = [next(rest) if axis is None else axis for axis in order]
    coupling.put(op, [item.moved([full.index(axis) for axis in item.axes]) for item in coupling.of(op["self"])])


@rule("unsqueeze", storage="view")
def unsqueeze(coupling: Coupling, op: Operator) -> None:
    """A new axis of size one."""
    axis = integer(op["dim"]) % len(op.shape)
    coupling.put(op, [item.moved([a + (a >= axis) for a in item.axes]) for item in coupling.of(op["self"])])


@rule("squeeze", storage="view")
def squeeze(coupling: Coupling, op: Operator) -> None:
    """Axes of size one removed."""
    source = op["self"]
    coupling.put(op, reshape_components(coupling.of(source), shape_of(source), op.shape, coupling.sets))


@rule("expand", "broadcast_to", storage="view", resize=_resize_shape("size"))
def expand(coupling: Coupling, op: Operator) -> None:
    """Axes of size one repeated without a copy; new axes in front carry no channels."""
    shift = len(op.shape) - len(shape_of(op["self"]))
    coupling.put(op, [item.shifted(shift) for item in coupling.of(op["self"])])


@rule("flip", "roll")
def flip_roll(coupling: Coupling, op: Operator) -> None:
    """Cyclic shifts and reversals along axes that are not channels."""
    rank = max(len(op.shape), 1)
    axes = [integer(axis) % rank for axis in op["dims"]] or list(range(rank))
    coupling.freeze(op["self"], f"{op.kind} along a channel axis", axes)
    coupling.put(op, [item for item in coupling.of(op["self"]) if not set(item.axes) & set(axes)])


@rule("im2col")
def im2col(coupling: Coupling, op: Operator) -> None:
    """Sliding windows as channels: every channel becomes kernel-size consecutive ones, positions become one axis."""
    axis = len(op.shape) - 2
    ids = coupling.along(op["self"], axis)
    rank = len(shape_of(op["self"]))
    coupling.freeze(
        op["self"], "channels along an axis of sliding windows", {0, 1, 2, 3} - {axis} if rank == 4 else {1, 2}
    )
    if ids is not None:
        coupling.put(op, [Component((axis,), np.repeat(ids, op.shape[axis] // len(ids)))])


@rule("unfold", storage="view")
def unfold(coupling: Coupling, op: Operator) -> None:
    """Windows of one axis; they go to a new last axis."""
    axis = integer(op["dimension"]) % len(shape_of(op["self"]))
    coupling.freeze(op["self"], "windows along a channel axis", [axis])
    coupling.put(op, [item for item in coupling.of(op["self"]) if axis not in item.axes])


@rule("col2im")
def col2im(coupling: Coupling, op: Operator) -> None:
    """Sliding windows added up: kernel-size consecutive channels are one channel of the result."""
    axis = len(op.shape) - 3
    ids = coupling.along(op["self"], axis)
    coupling.freeze(op["self"], "channels along an axis of sliding windows", {0, 1, 2} - {axis})
    if ids is not None:
        blocks = ids.reshape(op.shape[axis], -1)
        coupling.sets.union(blocks, blocks[:, :1])
        coupling.put(op, [Component((axis,), blocks[:, 0])])
