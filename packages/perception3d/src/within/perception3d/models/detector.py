"""A detector of objects in point clouds, put together from its parts.

    points -> voxels -> [3-D backbone] -> map seen from above -> 2-D backbone -> head

The part after the map runs in one of three ways with the same weights: "dense" (every pixel), "masked" (dense
arithmetic, zero outside of the occupied places) or "sparse" (occupied places only); the last two agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor, nn

from within.core.errors import WithinError
from within.perception3d.models.bev_backbone import BevBackbone
from within.perception3d.models.bev_map import BevMap
from within.perception3d.models.height_compression import Execution, compress_height
from within.perception3d.models.pillar_encoder import PillarEncoder
from within.perception3d.models.voxel_backbone import VoxelBackbone
from within.perception3d.sparse import SparseTensor
from within.perception3d.voxels import VoxelGrid

Thin3D = Callable[[int, SparseTensor], SparseTensor]
Thin2D = Callable[[int, BevMap], BevMap]
EXECUTIONS = ("dense", "masked", "sparse")


class Detector(nn.Module):
    """See the module.

    Arguments:
        grid: into which the points are sorted.
        backbone: in three dimensions, or an encoder of pillars.
        bev: the 2-D backbone.
        head: `CenterHead` or `AnchorHead`.
        stride: pixels of the grid in a pixel of the head's maps.
        execution: see the module.
    """

    def __init__(
        self,
        grid: VoxelGrid,
        backbone: VoxelBackbone | PillarEncoder,
        bev: BevBackbone,
        head: nn.Module,
        *,
        stride: int,
        execution: Execution = "dense",
    ) -> None:
        super().__init__()
        if execution not in EXECUTIONS:
            raise WithinError(f"There is no execution {execution!r}", todo=f"choose one of {', '.join(EXECUTIONS)}")
        self.grid, self.stride, self.execution = grid, stride, execution
        self.backbone, self.bev, self.head = backbone, bev, head

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes it detects."""
        return self.head.classes  # type: ignore[return-value]

    @property
    def columns(self) -> int:
        """Numbers of a point that it takes."""
        if isinstance(self.backbone, PillarEncoder):
            return self.backbone.linear.in_features - 6
        return int(self.backbone.stem.convolution.weight.shape[-1])

    @property
    def values(self) -> int:
        """Numbers of a box that it predicts: 7, or 9 with velocities."""
        return 9 if getattr(self.head, "velocity", False) else 7

    def forward(
        self,
        points: Float[Tensor, "voxels most_points columns"],
        counts: Int32[Tensor, " voxels"],
        places: Int32[Tensor, "voxels 3"],
        held: Int64[Tensor, " batch"],
        *,
        after: Thin3D | None = None,
        before: Thin2D | None = None,
    ) -> list[dict[str, Any]]:
        """Returns the head's maps.

        Arguments:
            points: of each voxel, zeros after the last.
            counts: how many each holds.
            places: z, y and x of each.
            held: number of voxels of each cloud, which lie one after the other.
            after, before: see `VoxelBackbone` and `BevBackbone`; they may thin out what they are given.
        """
        return self.head(self.bev(self.seen_from_above(points, counts, places, held, after=after), before))  # type: ignore[no-any-return]

    def seen_from_above(
        self, points: Tensor, counts: Tensor, places: Tensor, held: Tensor, *, after: Thin3D | None = None
    ) -> BevMap:
        """Returns the map that the 2-D backbone is given; see `forward`."""
        voxels = self.voxels(points, counts, places, held)
        if isinstance(self.backbone, PillarEncoder):
            return compress_height(self.backbone(points, counts, voxels.indices, voxels.batch), self.execution)
        return compress_height(self.backbone(voxels, after), self.execution)

    def voxels(self, points: Tensor, counts: Tensor, places: Tensor, held: Tensor) -> SparseTensor:
        """Returns the mean of each voxel's points over (z, y, x), as the 3-D backbone takes them; see `forward`."""
        batch = torch.repeat_interleave(torch.arange(len(held), device=held.device), held)
        indices = torch.cat([batch[:, None].to(torch.int32), places], dim=1).contiguous()
        x, y, z = self.grid.cells
        return SparseTensor(points.sum(1) / counts[:, None].to(points.dtype), indices, (z + 1, y, x), len(held))
