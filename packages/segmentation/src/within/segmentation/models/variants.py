"""The variants of the networks as data: constructor arguments, and what their authors state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from within.core.registry import by_name
from within.segmentation.models.espnet import ESPNet
from within.segmentation.models.espnet_v2 import ESPNetV2
from within.segmentation.models.normalisation import CAMVID_DEVIATION, CAMVID_MEAN
from within.segmentation.models.swiftnet_pyramid import SwiftNetPyramid
from within.segmentation.models.swiftnet_single_scale import SwiftNetSingleScale


@dataclass(frozen=True)
class Variant:
    """One network with fixed arguments.

    Attributes:
        network: its class.
        arguments: what the class is constructed with.
        published: counts or quality as the authors state them, or empty.
    """

    name: str
    network: type[nn.Module]
    arguments: Mapping[str, Any]
    published: str = ""


VARIANTS: Mapping[str, Variant] = by_name(
    Variant("swiftnet_rn18", SwiftNetSingleScale, {"depth": 18}, "Cityscapes val 75.4, 104.0 GFLOPs, 11.8 M"),
    Variant("swiftnet_rn34", SwiftNetSingleScale, {"depth": 34}),
    Variant("swiftnet_mobilenet_v2", SwiftNetSingleScale, {"depth": "mobilenet_v2"}),
    Variant("swiftnet_pyramid_rn18", SwiftNetPyramid, {"depth": 18}),
    Variant("swiftnet_pyramid_rn34", SwiftNetPyramid, {"depth": 34}),
    Variant("swiftnet_pyramid_mobilenet_v2", SwiftNetPyramid, {"depth": "mobilenet_v2"}),
    Variant(
        "swiftnet_ade20k",
        SwiftNetPyramid,
        {"depth": 34, "output_stride": 8, "classes": 150},
        "ADE20K val 33.89, 209.67 GMACs, 22 040 278 parameters",
    ),
    Variant(
        "espnet_camvid",
        ESPNet,
        {
            "classes": 11,
            "q": 8,
            "skip": "features_and_image",
            "mean": CAMVID_MEAN,
            "deviation": CAMVID_DEVIATION,
        },
        "CamVid test 55.64 (V1), class accuracy 68.30",
    ),
    *(Variant(f"espnet_q{q}", ESPNet, {"q": q}) for q in (3, 5, 8)),
    *(
        Variant(f"espnet_v2_s{scale}", ESPNetV2, {"scale": scale}, f"Cityscapes val {miou} at 1024x512")
        for scale, miou in ((0.5, 53.9), (1.0, 60.1), (1.5, 63.8))
    ),
)
