"""RCAN: residual groups of residual blocks with channel attention.

Zhang, Li, Li, Wang, Zhong, Fu: Image Super-Resolution Using Very Deep Residual Channel Attention Networks, ECCV 2018.
Parameter names are those of the published BasicSR files.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.lowlevel.models.carn import DIV2K_MEAN
from within.lowlevel.models.residual_block import shuffle_upsample


class RCAN(nn.Module):
    """The published network has 10 groups of 20 blocks, 64 channels, reduction 16.

    Arguments:
        groups: residual groups.
        depth: blocks in a group.
        reduction: squeeze factor of the channel attention.
        image_range, mean: as in EDSR.
    """

    size_multiple = 1

    def __init__(
        self,
        channels: int = 3,
        width: int = 64,
        groups: int = 10,
        depth: int = 20,
        *,
        reduction: int = 16,
        scale: int = 4,
        image_range: float = 255.0,
        mean: Sequence[float] = DIV2K_MEAN,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.image_range = image_range
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualGroup(width, depth, reduction) for _ in range(groups)))
        self.conv_after_body = nn.Conv2d(width, width, 3, padding=1)
        self.upsample = shuffle_upsample(width, scale)
        self.conv_last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels out_height out_width"]:
        """Returns the image, `scale` times as high and wide; images are in [0, 1]."""
        first = self.conv_first((image - self.mean) * self.image_range)
        features = self.conv_after_body(self.body(first)) + first
        return self.conv_last(self.upsample(features)) / self.image_range + self.mean


class ResidualGroup(nn.Module):
    """Blocks and a convolution under one skip."""

    def __init__(self, width: int, depth: int, reduction: int) -> None:
        super().__init__()
        self.residual_group = nn.Sequential(*(AttentionBlock(width, reduction) for _ in range(depth)))
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        return self.conv(self.residual_group(features)) + features


class AttentionBlock(nn.Module):
    """x + attention(conv(ReLU(conv(x))))."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.rcab = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            ChannelAttention(width, reduction),
        )

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        return self.rcab(features) + features


class ChannelAttention(nn.Module):
    """Squeeze and excitation: each channel times a gate computed from all channel means."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width // reduction, width, 1),
            nn.Sigmoid(),
        )

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        return features * self.attention(features)
