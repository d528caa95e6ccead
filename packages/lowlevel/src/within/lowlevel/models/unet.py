"""A plain U-Net for restoration; the project's own denoiser is an instance.

After Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015, with
padded convolutions and, as in DnCNN, a residual output.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError


class UNet(nn.Module):
    """Two 3x3 convolutions at each level, skips taken before the pooling and concatenated.

    Arguments:
        channels: image channels.
        width: channels at full resolution, doubled at each of the `levels`.
        levels: resolutions; there is one pooling less.
        widths: channels at each level, instead of `width` and `levels`.
        up: how the decoder doubles the size: "transposed" is a 2x2 transposed convolution; "pixel_shuffle" a 1x1
            convolution and a pixel-shuffle, the same function in operators that need no scratch memory; "nearest" a 1x1
            convolution and nearest-neighbour interpolation.
        residual: adds the image to the output.
        inplace: ReLUs that overwrite their input.

    Raises:
        WithinError: for another `up`.
    """

    scale = 1

    def __init__(
        self,
        channels: int = 3,
        width: int = 32,
        levels: int = 5,
        *,
        widths: Sequence[int] | None = None,
        up: str = "transposed",
        residual: bool = True,
        inplace: bool = True,
    ) -> None:
        super().__init__()
        widths = tuple(width * 2**level for level in range(levels)) if widths is None else tuple(widths)
        self.residual = residual
        self.size_multiple = 2 ** (len(widths) - 1)
        self.encoder = nn.ModuleList(
            _double_convolution(before, after, inplace)
            for before, after in zip((channels, *widths), widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        # Indexed by the level they lead to.
        self.up = nn.ModuleList(_upsampler(below, here, up) for here, below in pairwise(widths))
        self.decoder = nn.ModuleList(_double_convolution(2 * here, here, inplace) for here in widths[:-1])
        self.tail = nn.Conv2d(widths[0], channels, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        if residual:
            nn.init.zeros_(self.tail.weight)  # starts as the identity; else large first steps kill the ReLUs

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Returns the restored image."""
        features, skips = self.encoder[0](image), []
        for encoder in self.encoder[1:]:
            skips.append(features)
            features = encoder(self.pool(features))
        for level in reversed(range(len(skips))):
            joined = torch.cat((skips.pop(), self.up[level](features)), dim=1)
            features = self.decoder[level](joined)
        output = self.tail(features)
        return image + output if self.residual else output


def _double_convolution(in_channels: int, out_channels: int, inplace: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.ReLU(inplace),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.ReLU(inplace),
    )


def _upsampler(in_channels: int, out_channels: int, kind: str) -> nn.Module:
    if kind == "transposed":
        return nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
    if kind == "pixel_shuffle":
        return nn.Sequential(nn.Conv2d(in_channels, 4 * out_channels, 1), nn.PixelShuffle(2))
    if kind == "nearest":
        return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.Upsample(scale_factor=2, mode="nearest"))
    raise WithinError(f"No upsampling {kind!r}", where="up", todo="choose transposed, pixel_shuffle or nearest")
