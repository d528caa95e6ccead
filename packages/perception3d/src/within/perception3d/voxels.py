"""Points grouped into the cells of a grid: the first few of each cell, and their mean.

Zhou and Tuzel: VoxelNet, CVPR 2018. Cells are floor((p - low) / size) in float32, as published counts are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int32
from numba import njit
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.perception3d.sparse import SparseTensor


@dataclass(frozen=True)
class VoxelGrid:
    """A grid over a region.

    Attributes:
        low, high: corners of the region, x, y and z, in metres.
        size: of a voxel.
        most_points: kept of a voxel.
        most_voxels: kept of a cloud.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    size: tuple[float, float, float]
    most_points: int = 5
    most_voxels: int = 40_000

    @property
    def cells(self) -> tuple[int, int, int]:
        """Number of voxels along x, y and z."""
        x, y, z = (round((b - a) / s) for a, b, s in zip(self.low, self.high, self.size, strict=True))
        return x, y, z


@dataclass(frozen=True, eq=False)
class Voxels:
    """The occupied voxels of one cloud.

    Attributes:
        points: of each voxel, zeros after the last.
        counts: how many each holds.
        places: z, y and x of each, in the order in which the points met them.
    """

    points: Float32[np.ndarray, "voxels most_points columns"]
    counts: Int32[np.ndarray, " voxels"]
    places: Int32[np.ndarray, "voxels 3"]

    @property
    def means(self) -> Float32[np.ndarray, "voxels columns"]:
        """Mean of the points kept of each voxel."""
        found: NDArray[np.float32] = self.points.sum(1) / self.counts[:, None].astype(np.float32)
        return found


def voxelise(points: NDArray[np.float32], grid: VoxelGrid) -> Voxels:
    """Groups a cloud.

    Arguments:
        points: x, y, z and further columns.
        grid: where, and how many are kept.

    Raises:
        WithinError: when no point lies in the region.
    """
    low, size = np.array(grid.low, np.float32), np.array(grid.size, np.float32)
    cells = np.array(grid.cells, np.int64)
    places = np.floor((points[:, :3] - low) / size).astype(np.int64)
    inside = ((places >= 0) & (places < cells)).all(1)
    if not inside.any():
        raise WithinError(
            f"None of {len(points)} points lies in the region {grid.low} to {grid.high}",
            todo="check the frame of the points: x forward, y left, z up, in metres",
        )
    chosen, places = np.ascontiguousarray(points[inside], np.float32), places[inside]
    keys = (places[:, 2] * cells[1] + places[:, 1]) * cells[0] + places[:, 0]
    _, first, number = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    count = min(len(first), grid.most_voxels)
    kept, counts = _filled(chosen, rank[number], count, grid.most_points)
    order = np.sort(first, kind="stable")[:count]
    return Voxels(kept, counts, places[order][:, ::-1].astype(np.int32))


def sparse_batch(clouds: Sequence[Voxels], grid: VoxelGrid, *, extra_layer: bool = True) -> SparseTensor:
    """Returns the means of several clouds' voxels as one sparse tensor.

    Arguments:
        clouds: one for each map of the batch.
        grid: of all of them.
        extra_layer: one more cell along z, as the published 3-D backbones expect.
    """
    x, y, z = grid.cells
    places = [np.pad(each.places, ((0, 0), (1, 0)), constant_values=row) for row, each in enumerate(clouds)]
    features = torch.from_numpy(np.concatenate([each.means for each in clouds]))
    indices = torch.from_numpy(np.concatenate(places).astype(np.int32))
    return SparseTensor(features, indices.contiguous(), (z + int(extra_layer), y, x), len(clouds))


@njit(cache=True)
def _filled(points, rows, count, most):  # type: ignore[no-untyped-def]
    found = np.zeros((count, most, points.shape[1]), np.float32)
    counts = np.zeros(count, np.int32)
    for at in range(len(points)):
        row = rows[at]
        if row < count and counts[row] < most:
            found[row, counts[row]] = points[at]
            counts[row] += 1
    return found, counts
