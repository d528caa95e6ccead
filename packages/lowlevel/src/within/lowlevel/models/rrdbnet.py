"""RRDBNet, the generator of ESRGAN: residual-in-residual dense blocks.

Wang et al.: ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks, ECCVW 2018.
Parameter names are those of the published BasicSR files.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError
from within.lowlevel.models.residual_block import scale_down_init

RESIDUAL_SCALE = 0.2


class RRDBNet(nn.Module):
    """Published: 23 blocks, 64 channels, growth 32, x4.

    Arguments:
        scale: 4; or 2 or 1, where the input is first pixel-unshuffled by 2 or 4 (as in Real-ESRGAN).
    """

    def __init__(
        self, channels: int = 3, width: int = 64, depth: int = 23, *, growth: int = 32, scale: int = 4
    ) -> None:
        super().__init__()
        if scale not in (1, 2, 4):
            raise WithinError(f"Upscaling by {scale} is not possible here", todo="choose 1, 2 or 4")
        self.scale = scale
        self.size_multiple = 4 // scale
        self.unshuffle = nn.PixelUnshuffle(self.size_multiple) if scale < 4 else nn.Identity()
        self.conv_first = nn.Conv2d(channels * self.size_multiple**2, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualInResidual(width, growth) for _ in range(depth)))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        self.conv_up1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_up2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, channels, 3, padding=1)
        self.lrelu = nn.LeakyReLU(0.2, inplace=True)

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels out_height out_width"]:
        """Returns the image, `scale` times as high and wide."""
        first = self.conv_first(self.unshuffle(image))
        features = first + self.conv_body(self.body(first))
        features = self.lrelu(self.conv_up1(F.interpolate(features, scale_factor=2, mode="nearest")))
        features = self.lrelu(self.conv_up2(F.interpolate(features, scale_factor=2, mode="nearest")))
        return self.conv_last(self.lrelu(self.conv_hr(features)))


class ResidualInResidual(nn.Module):
    """Three dense blocks under one scaled skip."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(width, growth)
        self.rdb2 = DenseBlock(width, growth)
        self.rdb3 = DenseBlock(width, growth)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        return self.rdb3(self.rdb2(self.rdb1(features))) * RESIDUAL_SCALE + features


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees the input and all earlier outputs."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(width + growth, growth, 3, padding=1)
        self.conv3 = nn.Conv2d(width + 2 * growth, growth, 3, padding=1)
        self.conv4 = nn.Conv2d(width + 3 * growth, growth, 3, padding=1)
        self.conv5 = nn.Conv2d(width + 4 * growth, width, 3, padding=1)
        self.lrelu = nn.LeakyReLU(0.2, inplace=True)
        scale_down_init(self)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        grown1 = self.lrelu(self.conv1(features))
        grown2 = self.lrelu(self.conv2(torch.cat((features, grown1), dim=1)))
        grown3 = self.lrelu(self.conv3(torch.cat((features, grown1, grown2), dim=1)))
        grown4 = self.lrelu(self.conv4(torch.cat((features, grown1, grown2, grown3), dim=1)))
        residual = self.conv5(torch.cat((features, grown1, grown2, grown3, grown4), dim=1))
        return residual * RESIDUAL_SCALE + features
