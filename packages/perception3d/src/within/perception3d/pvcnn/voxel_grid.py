"""From points to a dense grid of voxels and back, as the voxel branch of PVConv does it.

Liu, Tang, Lin, Han: Point-Voxel CNN for Efficient 3D Deep Learning, NeurIPS 2019, section 3.1.

    normalise       c' = (c - mean) / (2 max |c - mean|) + 1/2, or (c - mean + 1) / 2;  then r c', clamped to [0, r - 1]
    voxelise        the mean of the features of all points whose nearest cell is the same
    devoxelise      trilinear between the eight cells around the point

Coordinates get no gradient.
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor


def grid_coordinates(
    points: Float[Tensor, "batch 3 points"], resolution: int, *, normalise: bool = True, epsilon: float = 0.0
) -> Float[Tensor, "batch 3 points"]:
    """Returns the places of points in a grid, in cells, clamped to it.

    Arguments:
        points: coordinates.
        resolution: cells along each side of the grid.
        normalise: scale each cloud so that its farthest point touches the grid; otherwise clouds lie in the unit ball.
        epsilon: added to the largest distance; a cloud of one place comes to the middle even where it is 0.
    """
    centred = points.detach() - points.detach().mean(2, keepdim=True)
    if normalise:
        farthest = 2 * centred.norm(dim=1, keepdim=True).amax(2, keepdim=True) + epsilon
        centred = centred / torch.where(farthest > 0, farthest, 1) + 0.5
    else:
        centred = (centred + 1) / 2
    return (centred * resolution).clamp(0, resolution - 1)


def voxelise(
    features: Float[Tensor, "batch channels points"], places: Float[Tensor, "batch 3 points"], resolution: int
) -> Float[Tensor, "batch channels cells cells cells"]:
    """Returns the mean feature of the points nearest to each cell, halves to even; zero where there is none.

    Arguments:
        features: of the points.
        places: from `grid_coordinates`.
        resolution: of the grid.
    """
    batch, channels, _ = features.shape
    cells = _numbered(places.round().long(), resolution)
    counts = features.new_zeros(batch, resolution**3).scatter_add_(1, cells, torch.ones_like(places[:, 0]))
    sums = features.new_zeros(batch, channels, resolution**3)
    sums = sums.scatter_add(2, cells[:, None].expand_as(features), features)
    means = sums / counts.clamp(min=1)[:, None]
    return means.view(batch, channels, resolution, resolution, resolution)


def devoxelise(
    grid: Float[Tensor, "batch channels cells cells cells"], places: Float[Tensor, "batch 3 points"]
) -> Float[Tensor, "batch channels points"]:
    """Returns the grid's features at points, trilinear between cells.

    Arguments:
        grid: features.
        places: from `grid_coordinates` of the grid's resolution.
    """
    channels, resolution = grid.shape[1], grid.shape[2]
    flat = grid.flatten(2)
    low = places.floor()
    part = places - low
    ends = low.long(), low.long() + (part > 0)
    found = None
    for corner in itertools.product((0, 1), repeat=3):
        cell = torch.stack([ends[side][:, axis] for axis, side in enumerate(corner)], dim=1)
        share = torch.stack([part[:, a] if side else 1 - part[:, a] for a, side in enumerate(corner)]).prod(0)
        rows = _numbered(cell, resolution)[:, None].expand(-1, channels, -1)
        value = share[:, None] * flat.gather(2, rows)
        found = value if found is None else found + value
    assert found is not None
    return found


def _numbered(cells: Tensor, resolution: int) -> Tensor:
    return (cells[:, 0] * resolution + cells[:, 1]) * resolution + cells[:, 2]
