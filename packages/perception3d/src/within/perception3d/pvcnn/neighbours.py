"""Neighbours among points: farthest-point sampling, ball query and interpolation from the three nearest.

Qi, Yi, Su, Guibas: PointNet++, NeurIPS 2017, sections 3.2 and 3.4.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from within.core.errors import WithinError
from within.perception3d.pvcnn import neighbours_numba

NEAREST, FARTHEST = 1e-10, 1e10  # of a squared distance that is divided by


def farthest_points(points: Float[Tensor, "batch 3 points"], count: int) -> Int64[Tensor, "batch count"]:
    """Returns the numbers of points of which each is farthest from all before it; the first is point 0.

    Raises:
        WithinError: when there are fewer points than are asked for.
    """
    number = points.shape[2]
    if number < count:
        raise WithinError(f"{count} of {number} points are asked for", todo="give clouds of more points")
    found: Tensor = _farthest(points.detach(), count)
    return found


@torch.library.custom_op(
    "within_perception3d::farthest_points", mutates_args=(), schema="(Tensor points, int count) -> Tensor"
)
def _farthest(points: Tensor, count: int) -> Tensor:
    """One operator in a traced graph, instead of some for each of the points found."""
    if points.device.type == "cpu":
        return torch.from_numpy(neighbours_numba.farthest_points(_array(points), count))
    return _farthest_in_torch(points, count)


@_farthest.register_fake
def _(points: Tensor, count: int) -> Tensor:
    return points.new_empty((points.shape[0], count), dtype=torch.long)


def _farthest_in_torch(points: Tensor, count: int) -> Tensor:
    batch, _, number = points.shape
    distances = points.new_full((batch, number), torch.inf)
    found = torch.zeros(batch, count, dtype=torch.long, device=points.device)
    rows = torch.arange(batch, device=points.device)
    for place in range(1, count):
        last = points[rows, :, found[:, place - 1]]
        distances = torch.minimum(distances, (points - last[:, :, None]).square().sum(1))
        found[:, place] = distances.argmax(1)
    return found


def ball_query(
    centres: Float[Tensor, "batch 3 centres"], points: Float[Tensor, "batch 3 points"], radius: float, count: int
) -> Int64[Tensor, "batch centres count"]:
    """Returns the first `count` points nearer than a radius, the first one again where there are fewer.

    A centre without any point in reach gets point 0.
    """
    found: Tensor = _in_reach(centres.detach(), points.detach(), radius, count)
    return found


@torch.library.custom_op(
    "within_perception3d::ball_query", mutates_args=(),
    schema="(Tensor centres, Tensor points, float radius, int count) -> Tensor",
)  # fmt: skip
def _in_reach(centres: Tensor, points: Tensor, radius: float, count: int) -> Tensor:
    """One operator in a traced graph; compiled on a CPU, where distances to all points would not fit the cache."""
    if points.device.type == "cpu":
        return torch.from_numpy(neighbours_numba.ball_query(_array(centres), _array(points), radius, count))
    return _in_reach_in_torch(centres, points, radius, count)


@_in_reach.register_fake
def _(centres: Tensor, points: Tensor, radius: float, count: int) -> Tensor:
    return points.new_empty((centres.shape[0], centres.shape[2], count), dtype=torch.long)


def _in_reach_in_torch(centres: Tensor, points: Tensor, radius: float, count: int) -> Tensor:
    number = points.shape[2]
    squares = (centres[:, :, :, None] - points[:, :, None]).square().sum(1)
    order = torch.arange(number, device=points.device).expand_as(squares)
    near = torch.where(squares < radius**2, order, number)
    found = near.topk(min(count, number), dim=2, largest=False).values
    found = torch.cat([found, found.new_full((*found.shape[:2], max(count - number, 0)), number)], dim=2)
    first = found[:, :, :1]
    found = torch.where(found == number, first, found)
    return torch.where(found == number, 0, found)


def _array(points: Tensor) -> np.ndarray:
    return (points if points.dtype == torch.float64 else points.float()).contiguous().numpy()


def gather(features: Float[Tensor, "batch channels points"], rows: Int64[Tensor, "batch ..."]) -> Tensor:
    """Returns the features of points by their numbers, (batch, channels, *places)."""
    channels = features.shape[1]
    flat = rows.flatten(1)[:, None].expand(-1, channels, -1)
    return features.gather(2, flat).view(*features.shape[:2], *rows.shape[1:])


def interpolate(
    points: Float[Tensor, "batch 3 points"],
    centres: Float[Tensor, "batch 3 centres"],
    features: Float[Tensor, "batch channels centres"],
) -> Float[Tensor, "batch channels points"]:
    """Returns features at points, from the three nearest centres, weighted by the inverse of the squared distance."""
    squares = (points[:, :, :, None] - centres[:, :, None]).square().sum(1)
    nearest = squares.topk(min(3, centres.shape[2]), dim=2, largest=False)
    shares = 1 / nearest.values.clamp(NEAREST, FARTHEST)
    shares = shares / shares.sum(2, keepdim=True)
    return (gather(features, nearest.indices) * shares[:, None]).sum(3)
