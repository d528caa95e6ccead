"""The point networks as data: constructor arguments, exact counts, and what their authors state.

Counts are multiply-accumulates of convolutions and linear layers for one cloud of the stated size. Published figures:
S3DIS area 5 mIoU / overall accuracy, ShapeNet mean IoU, KITTI validation moderate AP of Car / Pedestrian / Cyclist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from within.core.registry import by_name
from within.perception3d.pvcnn.frustum import FrustumNetwork
from within.perception3d.pvcnn.s3dis import RoomPointNet, RoomPVCNN, RoomPVCNNPlusPlus
from within.perception3d.pvcnn.shapenet import PartPointNetPlusPlus, PartPVCNN

ROOM_CHANNELS, PART_CHANNELS, FRUSTUM_CHANNELS, FRUSTUM_CLASSES = 9, 22, 4, 3


@dataclass(frozen=True)
class Variant:
    """One network with fixed arguments.

    Attributes:
        network: its class.
        arguments: what the class is constructed with.
        task: "rooms", "parts" or "frustums".
        points: of a cloud.
        parameters, macs: counts.
        published: quality as the authors state it, or empty.
    """

    name: str
    network: Callable[..., nn.Module]
    arguments: Mapping[str, Any]
    task: str
    points: int
    parameters: int
    macs: int
    published: str = ""

    def example_inputs(self, batch: int = 1) -> tuple[Tensor, ...]:
        """Returns clouds of zeros of the variant's size."""
        if self.task == "frustums":
            return torch.zeros(batch, FRUSTUM_CHANNELS, self.points), torch.zeros(batch, FRUSTUM_CLASSES)
        channels = ROOM_CHANNELS if self.task == "rooms" else PART_CHANNELS
        return (torch.zeros(batch, channels, self.points),)


def _widths(
    prefix: str,
    network: Callable[..., nn.Module],
    task: str,
    points: int,
    rows: tuple[tuple[float, int, int, str], ...],
) -> list[Variant]:
    """Returns a variant for each width of a network, named as `pvcnn_s3dis_c0p125`."""
    return [
        Variant(
            f"{prefix}_c{width:g}".replace(".", "p"),
            network,
            {"width": width},
            task,
            points,
            parameters,
            macs,
            published,
        )
        for width, parameters, macs, published in rows
    ]


VARIANTS: Mapping[str, Variant] = by_name(
    *_widths(
        "pvcnn_s3dis",
        RoomPVCNN,
        "rooms",
        4096,
        (
            (1, 2_572_493, 12_907_479_040, "56.64 / 86.47"),
            (0.5, 650_349, 3_358_269_440, ""),
            (0.25, 166_205, 905_267_200, "53.08 / 85.00"),
            (0.125, 43_365, 259_166_720, "48.75 / 82.79"),
        ),
    ),
    *_widths(
        "pvcnn_plus_plus_s3dis",
        RoomPVCNNPlusPlus,
        "rooms",
        8192,
        ((1, 13_709_837, 26_333_864_448, "59.02 / 87.48"), (0.5, 3_436_429, 6_654_212_224, "58.30 / 86.88")),
    ),
    Variant("pointnet_s3dis", RoomPointNet, {}, "rooms", 4096, 1_174_669, 3_573_055_488, "42.97 / 82.54"),
    *_widths(
        "pvcnn_shapenet",
        PartPVCNN,
        "parts",
        2048,
        (
            (1, 4_200_434, 15_444_747_264, "85.8"),
            (0.5, 1_058_578, 3_951_692_032, "85.5"),
            (0.25, 268_898, 1_033_175_616, "84.9"),
            (0.125, 69_370, 280_920_208, ""),
        ),
    ),
    Variant("pointnet_shapenet", PartPVCNN, {"voxels": False}, "parts", 2048, 2_520_050, 5_139_333_120, "83.7"),
    Variant(
        "pointnet_plus_plus_shapenet_ssg", PartPointNetPlusPlus, {"scales": "one"}, "parts", 2048, 1_409_202,
        1_313_964_032,
    ),
    Variant(
        "pointnet_plus_plus_shapenet_msg", PartPointNetPlusPlus, {}, "parts", 2048, 1_757_726, 4_758_536_192, "85.1"
    ),
    Variant(
        "frustum_pointnet", FrustumNetwork, {"kind": "pointnet"}, "frustums", 1024, 1_641_472, 1_026_409_856,
        "71.63 / 56.90 / 56.46",
    ),
    Variant(
        "frustum_pointnet_plus_plus", FrustumNetwork, {"kind": "pointnet++"}, "frustums", 1024, 1_902_368,
        1_397_065_088, "71.99 / 60.03 / 56.74",
    ),
    Variant(
        "frustum_pvcnn_e", FrustumNetwork, {"kind": "pvcnn_e"}, "frustums", 1024, 3_358_336, 4_445_816_192,
        "72.12 / 61.24 / 57.45",
    ),
)  # fmt: skip
