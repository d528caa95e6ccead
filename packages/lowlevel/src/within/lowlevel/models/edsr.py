"""EDSR, deep residual super-resolution without normalisation.

Lim, Son, Kim, Nah, Lee: Enhanced Deep Residual Networks for Single Image Super-Resolution, CVPRW 2017.
Parameter names are those of the published BasicSR files.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.lowlevel.models.carn import DIV2K_MEAN
from within.lowlevel.models.residual_block import ResidualBlock, shuffle_upsample


class EDSR(nn.Module):
    """Baseline: 16 blocks of 64 channels. Large: 32 blocks of 256, residuals scaled by 0.1.

    Arguments:
        image_range: factor on the mean-free image; the published weights saw 0..255.
        mean: of the training set, subtracted before and added after.
    """

    size_multiple = 1

    def __init__(
        self,
        channels: int = 3,
        width: int = 64,
        depth: int = 16,
        *,
        scale: int = 4,
        residual_scale: float = 1.0,
        image_range: float = 255.0,
        mean: Sequence[float] = DIV2K_MEAN,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.image_range = image_range
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width, residual_scale) for _ in range(depth)))
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
