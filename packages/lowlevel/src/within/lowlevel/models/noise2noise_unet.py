"""The U-Net of the PyTorch Noise2Noise weights, whose inner levels share one module.

Lehtinen et al.: Noise2Noise: Learning Image Restoration without Clean Data, ICML 2018, appendix, table 2; as realised
in noise2noise-pytorch (Lachance-Bernard et al.), where encoder levels 2 to 5 are the same convolution and decoder
levels 4 to 2 the same block. The paper has separate ones, but the published weights need the sharing.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Noise2NoiseUNet(nn.Module):
    """Five poolings; the skips are the pooled maps, and the image itself at full resolution."""

    scale = 1
    size_multiple = 32

    def __init__(self, channels: int = 3, width: int = 48) -> None:
        super().__init__()
        wide = 2 * width
        self.encode_first = nn.Sequential(*_conv_relu(channels, width), *_conv_relu(width, width), nn.MaxPool2d(2))
        self.encode = nn.Sequential(*_conv_relu(width, width), nn.MaxPool2d(2))
        self.bottleneck = nn.Sequential(*_conv_relu(width, width), _double(width))
        self.decode_first = nn.Sequential(*_conv_relu(wide, wide), *_conv_relu(wide, wide), _double(wide))
        self.decode = nn.Sequential(*_conv_relu(wide + width, wide), *_conv_relu(wide, wide), _double(wide))
        self.output = nn.Sequential(
            *_conv_relu(wide + channels, 64),
            *_conv_relu(64, 32),
            nn.Conv2d(32, channels, 3, padding=1),
            nn.LeakyReLU(0.1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Returns the clean image; images are in [0, 1]."""
        # Every stage keeps its name in the published forward, so eager execution holds all of them until the end.
        pool1 = self.encode_first(image)
        pool2 = self.encode(pool1)
        pool3 = self.encode(pool2)
        pool4 = self.encode(pool3)
        pool5 = self.encode(pool4)
        upsample5 = self.bottleneck(pool5)
        concat5 = torch.cat((upsample5, pool4), dim=1)
        upsample4 = self.decode_first(concat5)
        concat4 = torch.cat((upsample4, pool3), dim=1)
        upsample3 = self.decode(concat4)
        concat3 = torch.cat((upsample3, pool2), dim=1)
        upsample2 = self.decode(concat3)
        concat2 = torch.cat((upsample2, pool1), dim=1)
        upsample1 = self.decode(concat2)
        concat1 = torch.cat((upsample1, image), dim=1)
        return self.output(concat1)


def _conv_relu(in_channels: int, out_channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.ReLU(inplace=True)


def _double(width: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1)
