"""MSRResNet: SRResNet without batch normalisation, on top of bilinear interpolation.

After Ledig et al.: Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network, CVPR 2017,
as modified in BasicSR (Wang et al.); parameter names are those of its published files.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError
from within.lowlevel.models.residual_block import ResidualBlock, scale_down_init


class MSRResNet(nn.Module):
    """16 residual blocks of 64 channels; the network adds detail to the bilinearly enlarged image.

    Arguments:
        scale: 2, 3 or 4.
    """

    size_multiple = 1

    def __init__(self, channels: int = 3, width: int = 64, depth: int = 16, *, scale: int = 4) -> None:
        super().__init__()
        if scale not in (2, 3, 4):
            raise WithinError(f"Upscaling by {scale} is not possible here", todo="choose 2, 3 or 4")
        self.scale = scale
        step = 2 if scale == 4 else scale
        self.conv_first = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))
        self.upconv1 = nn.Conv2d(width, width * step**2, 3, padding=1)
        self.upconv2 = nn.Conv2d(width, width * step**2, 3, padding=1) if scale == 4 else None
        self.pixel_shuffle = nn.PixelShuffle(step)
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, channels, 3, padding=1)
        self.lrelu = nn.LeakyReLU(0.1, inplace=True)
        scale_down_init(self)

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels out_height out_width"]:
        """Returns the image, `scale` times as high and wide; images are in [0, 1]."""
        features = self.body(self.lrelu(self.conv_first(image)))
        features = self.lrelu(self.pixel_shuffle(self.upconv1(features)))
        if self.upconv2 is not None:
            features = self.lrelu(self.pixel_shuffle(self.upconv2(features)))
        detail = self.conv_last(self.lrelu(self.conv_hr(features)))
        return detail + F.interpolate(image, scale_factor=self.scale, mode="bilinear", align_corners=False)
