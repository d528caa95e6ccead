"""SECOND (Yan, Mao, Li, Sensors 2018) and PointPillars (Lang et al., CVPR 2019): detectors with anchors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from within.perception3d.models.anchor_head import (
    ANGLES,
    DIRECTION_OFFSET,
    KITTI_ANCHORS,
    AnchorClass,
    AnchorHead,
)
from within.perception3d.models.bev_backbone import BevBackbone, BevBlock, Norm
from within.perception3d.models.bev_layers import Reach
from within.perception3d.models.center_point import layers_on_top
from within.perception3d.models.detector import Detector
from within.perception3d.models.height_compression import Execution
from within.perception3d.models.pillar_encoder import PillarEncoder
from within.perception3d.models.voxel_backbone import VoxelBackbone
from within.perception3d.voxels import VoxelGrid


def second(
    grid: VoxelGrid,
    blocks: Sequence[BevBlock],
    *,
    columns: int = 4,
    widths: Sequence[int] = (16, 32, 64, 64),
    top_width: int = 128,
    paddings: Sequence[int | Sequence[int]] = (1, 1, (0, 1, 1)),
    anchor_classes: Sequence[AnchorClass | Mapping[str, Any]] = KITTI_ANCHORS,
    angles: Sequence[float] = ANGLES,
    aligned: bool = False,
    direction_offset: float = DIRECTION_OFFSET,
    norm: Norm = "batch",
    reach: Reach | Sequence[Reach] = "grow",
    execution: Execution = "dense",
) -> Detector:
    """Returns SECOND; see `center_point` for the arguments, and `AnchorHead` for those of the anchors."""
    backbone = VoxelBackbone(columns, widths, top_width, residual=False, paddings=paddings)
    bev = BevBackbone(top_width * layers_on_top(grid, paddings), blocks, norm=norm, reach=reach)
    head = AnchorHead(
        bev.out_channels, anchor_classes, angles=angles, aligned=aligned, direction_offset=direction_offset
    )
    stride = round(2 ** len(paddings) * blocks[0].stride / blocks[0].upsample)
    return Detector(grid, backbone, bev, head, stride=stride, execution=execution)


def point_pillars(
    grid: VoxelGrid,
    blocks: Sequence[BevBlock],
    *,
    columns: int = 4,
    width: int = 64,
    relative: bool = False,
    anchor_classes: Sequence[AnchorClass | Mapping[str, Any]] = KITTI_ANCHORS,
    angles: Sequence[float] = ANGLES,
    aligned: bool = False,
    direction_offset: float = DIRECTION_OFFSET,
    norm: Norm = "batch",
    reach: Reach | Sequence[Reach] = "grow",
    execution: Execution = "dense",
) -> Detector:
    """Returns PointPillars; see `center_point_pillars` and `AnchorHead` for the arguments."""
    bev = BevBackbone(width, blocks, norm=norm, reach=reach)
    head = AnchorHead(
        bev.out_channels, anchor_classes, angles=angles, aligned=aligned, direction_offset=direction_offset
    )
    encoder = PillarEncoder(grid, columns, width, relative=relative)
    stride = round(blocks[0].stride / blocks[0].upsample)
    return Detector(grid, encoder, bev, head, stride=stride, execution=execution)
