"""Operators that move, join or take apart axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from within.core.graph.operator import Operator, Shape, integer, shape_of
from within.lowlevel.receptive_field.reach import UNIFORM, Along, Tag, Walk
from within.lowlevel.receptive_field.table import moved, rule, whole_image


@rule("permute", "transpose", "swapaxes", "t", "numpy_T", "mT")
def _permute(walk: Walk, op: Operator) -> None:
    layout, rank = walk.of(op["self"]), len(op.shape)
    if op.kind == "permute":
        order = [integer(axis) % rank for axis in op["dims"]]
    else:
        given = [op[name] for name in ("dim0", "dim1", "axis0", "axis1") if name in op.arguments] or [-2, -1]
        first, second = (integer(axis) % rank for axis in given)
        order = list(range(rank))
        order[first], order[second] = second, first
    walk.put(op, [layout[axis] for axis in order])


@rule("movedim", "moveaxis")
def _movedim(walk: Walk, op: Operator) -> None:
    layout = list(walk.of(op["self"]))
    source, target = ([integer(axis) % len(layout) for axis in _list(op[name])] for name in ("source", "destination"))
    rest = [tag for axis, tag in enumerate(layout) if axis not in source]
    for new, old in sorted(zip(target, source, strict=True)):
        rest.insert(new, layout[old])
    walk.put(op, rest)


@rule("view", "_unsafe_view", "reshape", "view_as", "reshape_as", "flatten", "unflatten", "squeeze", "unsqueeze")
def _reshape(walk: Walk, op: Operator) -> None:
    old, layout = shape_of(op["self"]), walk.of(op["self"])
    tags: list[Tag] = [None] * len(op.shape)
    for before, after in _blocks(old, op.shape):
        wide, found = [axis for axis in before if old[axis] > 1], [axis for axis in after if op.shape[axis] > 1]
        image = [layout[axis] for axis in wide]
        new: Sequence[Tag] | None = None
        if len(wide) == len(found) == 1:
            new = image
        elif not any(isinstance(tag, Along) for tag in image):
            new = [UNIFORM if image and all(tag == UNIFORM for tag in image) else None] * len(found)
        elif len(found) == 1:
            new = _flat(image, [old[axis] for axis in wide]) or _blocks_to_pixels(image, [old[axis] for axis in wide])
        elif len(image) == 1:
            sizes = [op.shape[axis] for axis in found]
            new = _unflat(image[0], sizes) or _pixels_to_blocks(image[0], sizes)
        if new is None:
            walk.fault(op, "it rearranges the pixels of the image")
        else:
            for axis, tag in zip(found, new, strict=True):
                tags[axis] = tag
    walk.put(op, tags)


def _flat(image: Sequence[Tag], sizes: Sequence[int]) -> list[Tag] | None:
    """Height and width in one axis."""
    if [tag.axis if isinstance(tag, Along) else "" for tag in image] != ["height", "width"]:
        return None
    return [Along("pixels", tuple(tag.reaches[0] for tag in image if isinstance(tag, Along)), tuple(sizes))]


def _unflat(pixels: Tag, sizes: Sequence[int]) -> list[Tag] | None:
    """One axis becomes height and width again."""
    if not isinstance(pixels, Along) or pixels.sizes != tuple(sizes):
        return None
    height, width = pixels.reaches
    return [Along("height", (height,)), Along("width", (width,))]


def _pixels_to_blocks(pixels: Tag, sizes: Sequence[int]) -> list[Tag] | None:
    """Position i of the first axis is the block of pixels i * s .. i * s + s - 1; the other axes number them."""
    if not isinstance(pixels, Along) or pixels.axis == "pixels":
        return None
    size = math.prod(sizes[1:])
    return [Along(pixels.axis, (pixels.reaches[0].window(0, size - 1, size),)), *[None] * (len(sizes) - 1)]


def _blocks_to_pixels(image: Sequence[Tag], sizes: Sequence[int]) -> list[Tag] | None:
    """Position i is in the block floor(i / s)."""
    blocks = image[0]
    if not isinstance(blocks, Along) or blocks.axis == "pixels" or any(isinstance(tag, Along) for tag in image[1:]):
        return None
    return [Along(blocks.axis, (blocks.reaches[0].enlarged(math.prod(sizes[1:])),))]


def _blocks(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """Returns the smallest runs of axes that a reshape maps onto one another."""
    blocks, first, second = [], 0, 0
    while first < len(old) or second < len(new):
        start = first, second
        left = right = 1
        while (first, second) == start or left != right:
            if left <= right and first < len(old):
                left *= old[first]
                first += 1
            else:
                right *= new[second]
                second += 1
        blocks.append((list(range(start[0], first)), list(range(start[1], second))))
    return blocks


@rule("cat", "concat", "concatenate", "stack")
def _join(walk: Walk, op: Operator) -> None:
    axis = integer(op["dim"]) % len(op.shape)
    parts = [node for node in op["tensors"] if math.prod(shape_of(node))]
    if op.kind == "stack":
        layout = list(walk.broadcast(op, parts, shape_of(parts[0])))
        layout.insert(axis, None)
    else:
        for node in parts:
            whole_image(walk, op, node, [axis], "joined along the image")
        layout = list(walk.broadcast(op, parts, op.shape))
        layout[axis] = None
    walk.put(op, layout)


@rule("split_with_sizes", "split", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk", "unbind", "select")
def _take_apart(walk: Walk, op: Operator) -> None:
    axis, layout = op.axis(), list(walk.of(op["self"]))
    whole_image(walk, op, op["self"], [axis], "the image is taken apart")
    if op.kind in ("unbind", "select"):
        del layout[axis]
    walk.put_all(op, layout)


@rule("slice", "narrow")
def _slice(walk: Walk, op: Operator) -> None:
    axis, layout = op.axis(), list(walk.of(op["self"]))
    start, step = integer(op["start"] or 0), integer(op.get("step", 1))
    if start < 0:
        whole_image(walk, op, op["self"], [axis], "it counts from the end of the image")
    layout[axis] = moved(walk, op, layout[axis], lambda reach: reach.window(start, start, step))
    walk.put(op, layout)


@rule("getitem")
def _getitem(walk: Walk, op: Operator) -> None:
    walk.put(op, walk.of(f"{op['argument0'].name}:{op['argument1']}"))


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
