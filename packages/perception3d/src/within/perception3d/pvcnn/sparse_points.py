"""Between points and the voxels of a sparse grid: means on the way there, trilinear interpolation on the way back.

    voxel v at stride s holds the points p with floor(p / s) = v;  its features lie at s v, the voxel's lowest corner
    a point gets sum_j w_j x_j / sum_j w_j over those of the eight voxels around it that are occupied

Tang, Liu, Zhao, Lin, Lin, Wang, Han: Searching Efficient 3D Architectures with Sparse Point-Voxel Convolution, ECCV
2020, section 3. The voxel that a point lies in is always one of the eight, so that no sum of weights is 0.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from within.core.errors import WithinError
from within.perception3d.sparse import SparseTensor

Sizes = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class PointPlaces:
    """Where the points of a batch of clouds lie.

    Attributes:
        coordinates: z, y and x in cells of the finest grid, not below 0.
        cloud: number of each point's cloud.
        clouds: how many there are.
    """

    coordinates: Float[Tensor, "points 3"]
    cloud: Int64[Tensor, " points"]
    clouds: int

    def __len__(self) -> int:
        return len(self.cloud)


@dataclass(frozen=True, eq=False)
class PointsOnVoxels:
    """How the points of a batch meet the voxels of one grid.

    Attributes:
        own: voxel that each point lies in.
        around: the eight voxels around each, 0 where there is none.
        shares: weight of each of them; 0 where there is none, 1 together.
    """

    own: Int64[Tensor, " points"]
    around: Int64[Tensor, "points 8"]
    shares: Float[Tensor, "points 8"]

    def to_points(self, voxels: Float[Tensor, "voxels channels"]) -> Float[Tensor, "points channels"]:
        """Returns features at the points, interpolated."""
        gathered = voxels.index_select(0, self.around.flatten()).view(*self.around.shape, -1)
        return (self.shares[:, :, None] * gathered).sum(1)

    def to_voxels(self, points: Float[Tensor, "points channels"], voxels: int) -> Float[Tensor, "voxels channels"]:
        """Returns the mean over the points in each voxel; 0 where there is none."""
        return mean_rows(points, self.own, voxels)


def whole_cells(points: Float[Tensor, "points 3"], size: float) -> Float[Tensor, "points 3"]:
    """Returns z, y and x of points in whole cells of a size, from the cloud's lowest corner.

    Arguments:
        points: x, y and z of one cloud, in metres.
        size: of a cell, in metres.
    """
    cells = (points / size).round()
    return (cells - cells.amin(0)).flip(1)


def voxels_of(
    features: Float[Tensor, "points channels"], places: PointPlaces, *, multiple: int = 1
) -> tuple[SparseTensor, Int64[Tensor, " points"]]:
    """Returns the occupied voxels of the finest grid with mean features, and the voxel that each point lies in.

    Arguments:
        features: of the points.
        places: of the points.
        multiple: sides of the grid are multiples of it, so that strided convolutions leave out no cell.

    Raises:
        WithinError: when there are no points, or one lies below 0.
    """
    if not len(places):
        raise WithinError("There are no points", todo="leave empty clouds out")
    cells = places.coordinates.floor().long()
    if bool((cells < 0).any()):
        raise WithinError("A point lies below 0", todo="subtract the lowest corner of the cloud")
    shape = tuple((int(side) // multiple + 1) * multiple for side in cells.amax(0))
    keys, own = _keys(places.cloud, cells, shape).unique(return_inverse=True)
    depth, height, width = shape
    layers, x = keys // width, keys % width
    clouds, y = layers // height, layers % height
    indices = torch.stack([clouds // depth, clouds % depth, y, x], dim=1).to(torch.int32)
    return SparseTensor(mean_rows(features, own, len(keys)), indices, shape, places.clouds), own


def points_on(places: PointPlaces, voxels: SparseTensor, stride: int) -> PointsOnVoxels:
    """Returns how points meet the voxels of a grid.

    Arguments:
        places: in cells of the finest grid.
        voxels: of any grid.
        stride: side of its cells, in cells of the finest grid.

    Raises:
        WithinError: when a point lies in no voxel of the grid.
    """
    scaled = places.coordinates / stride
    low = scaled.floor()
    part = scaled - low
    lookup = _Lookup(voxels)
    rows, shares = [], []
    for corner in itertools.product((0, 1), repeat=3):
        side = torch.tensor(corner, device=low.device)
        row, there = lookup(places.cloud, low.long() + side)
        share = torch.where(side > 0, part, 1 - part).prod(1)
        rows.append(row)
        shares.append(torch.where(there, share, 0))
        if corner == (0, 0, 0) and not bool(there.all()):
            raise WithinError(
                f"{int((~there).sum())} points lie in no voxel of the grid at stride {stride}",
                todo="make the voxels of the same points",
            )
    weights = torch.stack(shares, dim=1)
    return PointsOnVoxels(rows[0], torch.stack(rows, dim=1), weights / weights.sum(1, keepdim=True))


def mean_rows(
    rows: Float[Tensor, "rows channels"], groups: Int64[Tensor, " rows"], count: int
) -> Float[Tensor, "count channels"]:
    """Returns the mean of the rows of each group; 0 for an empty one."""
    sums = rows.new_zeros(count, rows.shape[1]).index_add(0, groups, rows)
    counts = rows.new_zeros(count).index_add(0, groups, torch.ones_like(groups, dtype=rows.dtype))
    return sums / counts.clamp(min=1)[:, None]


class _Lookup:
    """Finds voxels by their places: keys are sorted once."""

    def __init__(self, voxels: SparseTensor) -> None:
        self.shape = voxels.shape
        places = voxels.indices.long()
        self.keys, self.order = _keys(places[:, 0], places[:, 1:], voxels.shape).sort()

    def __call__(self, cloud: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the row of each place, 0 where there is none, and whether there is one."""
        inside = (cells < torch.tensor(self.shape, device=cells.device)).all(1)
        sought = _keys(cloud, cells, self.shape)
        at = torch.searchsorted(self.keys, sought).clamp_(max=len(self.keys) - 1)
        there = inside & (self.keys[at] == sought)
        return torch.where(there, self.order[at], 0), there


def _keys(cloud: Tensor, cells: Tensor, shape: Sizes) -> Tensor:
    depth, height, width = shape
    return ((cloud * depth + cells[:, 0]) * height + cells[:, 1]) * width + cells[:, 2]
