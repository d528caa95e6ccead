"""The encoders by depth or name."""

from __future__ import annotations

from collections.abc import Sequence

from within.core.errors import WithinError
from within.segmentation.models.mobilenet_v2_encoder import MobileNetV2Encoder
from within.segmentation.models.resnet_encoder import ResNetEncoder

Depth = int | Sequence[int] | str


def encoder(depth: Depth, width: int = 64, levels: int = 1) -> ResNetEncoder | MobileNetV2Encoder:
    """Returns a ResNet of a depth (or of blocks a stage), or "mobilenet_v2".

    Arguments:
        width: of the first stage of a ResNet.
        levels: pyramid levels it will be applied to.

    Raises:
        WithinError: when there is none.
    """
    if not isinstance(depth, str):
        return ResNetEncoder(depth, width=width, levels=levels)
    if depth != "mobilenet_v2":
        raise WithinError(f"There is no encoder named {depth!r}", todo='choose a depth such as 18, or "mobilenet_v2"')
    return MobileNetV2Encoder(levels=levels)
