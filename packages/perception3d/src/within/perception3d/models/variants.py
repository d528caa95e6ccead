"""The published detectors by name, with the numbers of their configurations.

KITTI's are OpenPCDet's, nuScenes' are those of CenterPoint and OpenPCDet; those named mmdet3d are MMDetection3D's,
whose heads and anchors differ. `center_point_kitti` is the network that Ada3D starts from; `center_point_small` is a
thinner one for trials on a CPU, and no published network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from within.core.registry import Registry
from within.perception3d.models.anchor_detectors import point_pillars, second
from within.perception3d.models.anchor_head import AnchorClass
from within.perception3d.models.bev_backbone import BevBlock
from within.perception3d.models.center_point import center_point, center_point_pillars
from within.perception3d.models.detector import Detector
from within.perception3d.voxels import VoxelGrid

KITTI_CLASSES = ("Car", "Pedestrian", "Cyclist")
NUSCENES_TASKS = (
    ("car",),
    ("truck", "construction_vehicle"),
    ("bus", "trailer"),
    ("barrier",),
    ("motorcycle", "bicycle"),
    ("pedestrian", "traffic_cone"),
)
ONCE_CLASSES = ("Car", "Bus", "Truck", "Pedestrian", "Cyclist")

KITTI_VOXELS = VoxelGrid((0, -40, -3), (70.4, 40, 1), (0.05, 0.05, 0.1), most_points=5, most_voxels=40_000)
KITTI_PILLARS = VoxelGrid((0, -39.68, -3), (69.12, 39.68, 1), (0.16, 0.16, 4), most_points=32, most_voxels=40_000)
SMALL_VOXELS = VoxelGrid((0, -40, -3), (70.4, 40, 1), (0.1, 0.1, 0.2), most_points=5, most_voxels=40_000)
NUSCENES_010 = VoxelGrid((-51.2, -51.2, -5), (51.2, 51.2, 3), (0.1, 0.1, 0.2), most_points=10, most_voxels=60_000)
NUSCENES_0075 = VoxelGrid((-54, -54, -5), (54, 54, 3), (0.075, 0.075, 0.2), most_points=10, most_voxels=160_000)
NUSCENES_PILLARS = VoxelGrid((-51.2, -51.2, -5), (51.2, 51.2, 3), (0.2, 0.2, 8), most_points=20, most_voxels=30_000)
ONCE_VOXELS = VoxelGrid((-75.2, -75.2, -5), (75.2, 75.2, 3), (0.1, 0.1, 0.2), most_points=5, most_voxels=60_000)

MMDET3D_ANCHORS = (
    AnchorClass("Pedestrian", (0.8, 0.6, 1.73), -0.6, 0.5, 0.35),
    AnchorClass("Cyclist", (1.76, 0.6, 1.73), -0.6, 0.5, 0.35),
    AnchorClass("Car", (3.9, 1.6, 1.56), -1.78, 0.6, 0.45),
)
MMDET3D_SECOND_ANCHORS = (
    *(replace(each, matched=0.35, unmatched=0.2) for each in MMDET3D_ANCHORS[:2]),
    MMDET3D_ANCHORS[2],
)
MMDET3D_ANGLES: Mapping[str, Any] = {"angles": (0.0, 1.57), "direction_offset": -math.pi / 2}

ONE_BLOCK = (BevBlock(5, 128, 1, 2, 256),)
TWO_BLOCKS = (BevBlock(5, 128, 1, 1, 256), BevBlock(5, 256, 2, 2, 256))
COARSE_PILLAR_BLOCKS = (BevBlock(3, 64, 2, 0.5, 128), BevBlock(5, 128, 2, 1, 128), BevBlock(5, 256, 2, 2, 128))
PILLAR_BLOCKS = (BevBlock(3, 64, 2, 1, 128), BevBlock(5, 128, 2, 2, 128), BevBlock(5, 256, 2, 4, 128))


@dataclass(frozen=True)
class Variant:
    """A detector by name.

    Attributes:
        network: a function that returns it.
        arguments: what it is called with.
        note: what it is.
    """

    network: Callable[..., Detector]
    arguments: Mapping[str, Any]
    note: str


VARIANTS: Mapping[str, Variant] = {
    "center_point_kitti": Variant(
        center_point,
        {"grid": KITTI_VOXELS, "blocks": ONE_BLOCK, "tasks": (KITTI_CLASSES,)},
        "residual voxel backbone; the base of Ada3D",
    ),
    "center_point_kitti_plain": Variant(
        center_point,
        {
            "grid": KITTI_VOXELS, "blocks": ONE_BLOCK, "tasks": (KITTI_CLASSES,), "widths": (16, 32, 64, 64),
            "residual": False,
        },
        "plain voxel backbone",
    ),
    "center_point_kitti_pillars": Variant(
        center_point_pillars,
        {"grid": KITTI_PILLARS, "blocks": PILLAR_BLOCKS, "tasks": (KITTI_CLASSES,)},
        "on pillars",
    ),
    "second_kitti": Variant(second, {"grid": KITTI_VOXELS, "blocks": TWO_BLOCKS}, "anchors of three classes"),
    "point_pillars_kitti": Variant(
        point_pillars, {"grid": KITTI_PILLARS, "blocks": PILLAR_BLOCKS}, "anchors of three classes"
    ),
    "center_point_nuscenes": Variant(
        center_point,
        {"grid": NUSCENES_010, "blocks": TWO_BLOCKS, "tasks": NUSCENES_TASKS, "columns": 5, "velocity": True},
        "voxels of 0.1 m, ten sweeps",
    ),
    "center_point_nuscenes_0075": Variant(
        center_point,
        {"grid": NUSCENES_0075, "blocks": TWO_BLOCKS, "tasks": NUSCENES_TASKS, "columns": 5, "velocity": True},
        "voxels of 0.075 m, ten sweeps",
    ),
    "center_point_nuscenes_pillars": Variant(
        center_point_pillars,
        {
            "grid": NUSCENES_PILLARS, "blocks": COARSE_PILLAR_BLOCKS, "tasks": NUSCENES_TASKS, "columns": 5,
            "velocity": True,
        },
        "pillars of 0.2 m, ten sweeps",
    ),
    "center_point_once": Variant(
        center_point,
        {"grid": ONCE_VOXELS, "blocks": TWO_BLOCKS, "tasks": (ONCE_CLASSES,), "columns": 4},
        "voxels of 0.1 m",
    ),
    "center_point_small": Variant(
        center_point,
        {
            "grid": SMALL_VOXELS, "blocks": (BevBlock(3, 32, 1, 1, 32),), "tasks": (KITTI_CLASSES,),
            "widths": (16, 16, 32), "top_width": 32, "residual": False, "paddings": (1, 1), "head_width": 32,
        },
        "thin, for trials on a CPU",
    ),
    "mmdet3d_second_kitti": Variant(
        second,
        {"grid": KITTI_VOXELS, "blocks": TWO_BLOCKS, "anchor_classes": MMDET3D_SECOND_ANCHORS, **MMDET3D_ANGLES},
        "MMDetection3D's",
    ),
    "mmdet3d_point_pillars_kitti": Variant(
        point_pillars,
        {
            "grid": KITTI_PILLARS, "blocks": PILLAR_BLOCKS, "relative": True, "anchor_classes": MMDET3D_ANCHORS,
            "aligned": True, **MMDET3D_ANGLES,
        },
        "MMDetection3D's",
    ),
    "mmdet3d_center_point_nuscenes": Variant(
        center_point,
        {
            "grid": replace(NUSCENES_010, most_voxels=120_000), "blocks": TWO_BLOCKS, "tasks": NUSCENES_TASKS,
            "columns": 5, "velocity": True, "residual_bias": False, "head_bias": False,
        },
        "MMDetection3D's",
    ),
    "mmdet3d_center_point_nuscenes_0075": Variant(
        center_point,
        {
            "grid": replace(NUSCENES_0075, most_voxels=120_000), "blocks": TWO_BLOCKS, "tasks": NUSCENES_TASKS,
            "columns": 5, "velocity": True, "residual_bias": False, "head_bias": False,
        },
        "MMDetection3D's",
    ),
    "mmdet3d_center_point_nuscenes_pillars": Variant(
        center_point_pillars,
        {
            "grid": replace(NUSCENES_PILLARS, most_voxels=40_000), "blocks": COARSE_PILLAR_BLOCKS,
            "tasks": NUSCENES_TASKS, "columns": 5, "velocity": True, "head_bias": False,
        },
        "MMDetection3D's",
    ),
}  # fmt: skip


REGISTRY = Registry(VARIANTS)
names = REGISTRY.names


def build(name: str, **overrides: Any) -> Detector:
    """Returns a freshly initialised detector.

    Arguments:
        name: a variant, see `names()`.
        overrides: arguments of its constructor that replace those of the variant.

    Raises:
        WithinError: for an unknown name, or an override that the constructor does not have.
    """
    if "blocks" in overrides:
        overrides["blocks"] = tuple(
            each if isinstance(each, BevBlock) else BevBlock(*each) for each in overrides["blocks"]
        )
    if isinstance(overrides.get("grid"), Mapping):
        overrides["grid"] = VoxelGrid(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in overrides["grid"].items()}
        )
    found: Detector = REGISTRY.build(name, **overrides)
    return found
