"""PointPillars' encoder: points of a pillar become one feature vector.

Lang et al.: PointPillars, CVPR 2019. Each point carries its columns, its offset from the mean of the pillar's points
and from the pillar's centre; a linear layer, batch norm, ReLU, and the maximum over the pillar's points.
MMDetection3D's network for KITTI is given the offset from the centre in place of x, y and z as well.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor, nn

from within.perception3d.sparse import SparseTensor
from within.perception3d.voxels import VoxelGrid


class PillarEncoder(nn.Module):
    """See the module.

    Arguments:
        grid: of the pillars, one layer high.
        in_channels: columns of a point.
        width: of the features.
        relative: give x, y and z themselves as offsets from the pillar's centre.
    """

    def __init__(self, grid: VoxelGrid, in_channels: int = 4, width: int = 64, *, relative: bool = False) -> None:
        super().__init__()
        self.grid, self.relative = grid, relative
        self.linear = nn.Linear(in_channels + 6, width, bias=False)
        self.norm = nn.BatchNorm1d(width, eps=1e-3, momentum=0.01)

    def forward(
        self,
        points: Float[Tensor, "pillars most_points columns"],
        counts: Int32[Tensor, " pillars"],
        indices: Int32[Tensor, "pillars 4"],
        batch: int,
    ) -> SparseTensor:
        """Returns the pillars of a batch as a sparse map over (y, x).

        Arguments:
            points: of each pillar, zeros after the last.
            counts: how many each holds.
            indices: batch, z, y and x of each.
            batch: number of clouds.
        """
        held = torch.arange(points.shape[1], device=points.device) < counts[:, None]
        mean = points[:, :, :3].sum(1, keepdim=True) / counts.clamp(min=1)[:, None, None]
        size, low = points.new_tensor(self.grid.size), points.new_tensor(self.grid.low)
        centre = (indices[:, [3, 2, 1]] + 0.5) * size + low
        offsets = points[:, :, :3] - centre[:, None]
        own = torch.cat([offsets, points[:, :, 3:]], dim=2) if self.relative else points
        features = torch.cat([own, points[:, :, :3] - mean, offsets], dim=2)
        features = self.linear(features * held[:, :, None])
        features = F.relu(self.norm(features.flatten(0, 1)).view_as(features))
        x, y, _ = self.grid.cells
        return SparseTensor(features.amax(1), indices[:, [0, 2, 3]].contiguous(), (y, x), batch)
