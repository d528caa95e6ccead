"""Pooling, interpolation and pixel shuffling: channels on axis 1 pass or are dealt out in blocks."""

from __future__ import annotations

import math

import numpy as np

from within.core.graph.coupling import Coupling
from within.core.graph.labels import Component, Ids
from within.core.graph.operator import Operator, integer, shape_of
from within.core.graph.rules.table import ShapeOf, rule

MAX_POOLING = "max_pool2d max_pool3d".split()
POOLING = (
    "max_pool1d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d max_pool2d_with_indices "
    "max_pool1d_with_indices max_pool3d_with_indices _adaptive_avg_pool2d lp_pool2d fractional_max_pool2d "
    "max_unpool2d"
).split()
INTERPOLATION = (
    "upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_bilinear2d upsample_bicubic2d "
    "upsample_linear1d upsample_trilinear3d _upsample_nearest_exact2d _upsample_nearest_exact1d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler grid_sampler_2d "
    "reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d"
).split()


def index_bytes(op: Operator, shape: ShapeOf) -> int:
    """The int64 indices that a max pool makes, one an output element, though nobody reads them."""
    return 8 * math.prod(shape(op.node))


@rule(*MAX_POOLING, transient=index_bytes)
@rule(*POOLING, *INTERPOLATION)
def spatial(coupling: Coupling, op: Operator) -> None:
    """Works on the trailing axes; channels lie before them."""
    source, *others = op.tensors
    rank = len(shape_of(source))
    first = 2 if rank >= 3 and not _unbatched(op, rank) else 1
    coupling.freeze(source, f"channels lie along an axis that {op.kind} resamples", range(first, rank))
    for node in others:
        coupling.freeze(node, f"positions of {op.kind}")
    components = [item for item in coupling.of(source) if not set(item.axes) & set(range(first, rank))]
    value = op.node.meta.get("val")
    if isinstance(value, (tuple, list)):
        for output in range(len(value)):
            coupling.put(op, components, output)
    else:
        coupling.put(op, components)


def _unbatched(op: Operator, rank: int) -> bool:
    digits = [character for character in op.kind if character.isdigit()]
    return bool(digits) and rank == int(digits[0]) + 1


def _only_channels(coupling: Coupling, op: Operator, axis: int) -> Ids | None:
    """Returns the labels along the channel axis; those along other axes are frozen."""
    ids = coupling.along(op["self"], axis)
    for item in coupling.of(op["self"]):
        if axis not in item.axes:
            coupling.sets.freeze(item.ids, f"channels along another axis of {op.kind}")
    return ids


@rule("pixel_shuffle")
def pixel_shuffle(coupling: Coupling, op: Operator) -> None:
    """(C r^2, H, W) -> (C, rH, rW): r^2 consecutive input channels are one output channel."""
    axis = len(op.shape) - 3
    ids = _only_channels(coupling, op, axis)
    if ids is not None:
        blocks = ids.reshape(-1, integer(op["upscale_factor"]) ** 2)
        coupling.sets.union(blocks, blocks[:, :1])
        coupling.put(op, [Component((axis,), blocks[:, 0])])


@rule("pixel_unshuffle")
def pixel_unshuffle(coupling: Coupling, op: Operator) -> None:
    """(C, rH, rW) -> (C r^2, H, W): each channel becomes r^2 consecutive ones."""
    axis = len(op.shape) - 3
    ids = _only_channels(coupling, op, axis)
    if ids is not None:
        coupling.put(op, [Component((axis,), np.repeat(ids, integer(op["downscale_factor"]) ** 2))])


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(coupling: Coupling, op: Operator) -> None:
    """Interleaves g groups; channel i of every group together, so that groups stay equal."""
    ids = _only_channels(coupling, op, 1)
    if ids is not None:
        by_group = ids.reshape(integer(op["groups"]), -1)
        coupling.sets.union(by_group, by_group[:1])
        coupling.put(op, [Component((1,), by_group.T.reshape(-1))])
