"""CenterPoint on voxels and on pillars: Yin, Zhou, Krähenbühl, CVPR 2021."""

from __future__ import annotations

from collections.abc import Sequence

from within.perception3d.models.bev_backbone import BevBackbone, BevBlock, Norm
from within.perception3d.models.bev_layers import Reach
from within.perception3d.models.center_head import CenterHead
from within.perception3d.models.detector import Detector
from within.perception3d.models.height_compression import Execution
from within.perception3d.models.pillar_encoder import PillarEncoder
from within.perception3d.models.voxel_backbone import VoxelBackbone
from within.perception3d.voxels import VoxelGrid


def center_point(
    grid: VoxelGrid,
    blocks: Sequence[BevBlock],
    tasks: Sequence[Sequence[str]],
    *,
    columns: int = 4,
    widths: Sequence[int] = (16, 32, 64, 128),
    top_width: int = 128,
    residual: bool = True,
    residual_bias: bool = True,
    paddings: Sequence[int | Sequence[int]] = (1, 1, (0, 1, 1)),
    head_width: int = 64,
    head_bias: bool = True,
    velocity: bool = False,
    norm: Norm = "batch",
    reach: Reach | Sequence[Reach] = "grow",
    execution: Execution = "dense",
) -> Detector:
    """Returns CenterPoint on voxels.

    Arguments:
        grid: of the voxels.
        blocks: of the 2-D backbone.
        tasks: names of the classes, shared out among heads.
        columns: of a point.
        widths, top_width, residual, residual_bias, paddings: see `VoxelBackbone`.
        head_width: of the head's shared convolution.
        head_bias: whether the head's convolutions before a norm have a bias; those of MMDetection3D have none.
        velocity: predict velocities.
        norm, reach: see `BevBackbone`.
        execution: see `Detector`.
    """
    backbone = VoxelBackbone(
        columns, widths, top_width, residual=residual, residual_bias=residual_bias, paddings=paddings
    )
    bev = BevBackbone(top_width * layers_on_top(grid, paddings), blocks, norm=norm, reach=reach)
    head = CenterHead(
        bev.out_channels, tasks, shared=head_width, velocity=velocity, shared_bias=head_bias, branch_bias=head_bias
    )
    stride = round(2 ** len(paddings) * blocks[0].stride / blocks[0].upsample)
    return Detector(grid, backbone, bev, head, stride=stride, execution=execution)


def center_point_pillars(
    grid: VoxelGrid,
    blocks: Sequence[BevBlock],
    tasks: Sequence[Sequence[str]],
    *,
    columns: int = 4,
    width: int = 64,
    relative: bool = False,
    head_width: int = 64,
    head_bias: bool = True,
    velocity: bool = False,
    norm: Norm = "batch",
    reach: Reach | Sequence[Reach] = "grow",
    execution: Execution = "dense",
) -> Detector:
    """Returns CenterPoint on pillars; see `center_point`, and `PillarEncoder` for `relative`."""
    bev = BevBackbone(width, blocks, norm=norm, reach=reach)
    head = CenterHead(
        bev.out_channels, tasks, shared=head_width, velocity=velocity, shared_bias=head_bias, branch_bias=head_bias
    )
    encoder = PillarEncoder(grid, columns, width, relative=relative)
    stride = round(blocks[0].stride / blocks[0].upsample)
    return Detector(grid, encoder, bev, head, stride=stride, execution=execution)


def layers_on_top(grid: VoxelGrid, paddings: Sequence[int | Sequence[int]]) -> int:
    """Returns how many layers along z the 3-D backbone leaves."""
    layers = grid.cells[2] + 1
    for padding in paddings:
        along_z = padding if isinstance(padding, int) else padding[0]
        layers = (layers + 2 * along_z - 3) // 2 + 1
    return (layers - 3) // 2 + 1
