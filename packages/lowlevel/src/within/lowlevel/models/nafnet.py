"""NAFNet, a U-Net of blocks without nonlinear activation functions.

Chen, Chu, Zhang, Sun: Simple Baselines for Image Restoration, ECCV 2022.
Parameter names are those of the published files.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.lowlevel.models.layer_norm import LayerNorm2d


class NAFNet(nn.Module):
    """Encoder, middle and decoder of NAF blocks; skips are added; the image is added to the output.

    Arguments:
        width: channels at full resolution, doubled at each of the levels.
        encoder, decoder: blocks at each level, from the outside in and from the inside out.
        middle: blocks at the lowest resolution.
    """

    scale = 1

    def __init__(
        self,
        channels: int = 3,
        width: int = 32,
        *,
        encoder: Sequence[int] = (2, 2, 4, 8),
        middle: int = 12,
        decoder: Sequence[int] = (2, 2, 2, 2),
    ) -> None:
        super().__init__()
        self.size_multiple = 2 ** len(encoder)
        self.intro = nn.Conv2d(channels, width, 3, padding=1)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        for count in encoder:
            self.encoders.append(nn.Sequential(*(NAFBlock(width) for _ in range(count))))
            self.downs.append(nn.Conv2d(width, 2 * width, 2, stride=2))
            width *= 2
        self.middle_blks = nn.Sequential(*(NAFBlock(width) for _ in range(middle)))
        self.ups, self.decoders = nn.ModuleList(), nn.ModuleList()
        for count in decoder:
            self.ups.append(nn.Sequential(nn.Conv2d(width, 2 * width, 1, bias=False), nn.PixelShuffle(2)))
            width //= 2
            self.decoders.append(nn.Sequential(*(NAFBlock(width) for _ in range(count))))
        self.ending = nn.Conv2d(width, channels, 3, padding=1)

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Returns the restored image."""
        features, skips = self.intro(image), []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            features = encoder(features)
            skips.append(features)
            features = down(features)
        features = self.middle_blks(features)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            features = decoder(up(features) + skips.pop())
        return self.ending(features) + image


class NAFBlock(nn.Module):
    """y = x + beta * conv3(SCA(gate(conv2(conv1(norm1(x)))));  y + gamma * conv5(gate(conv4(norm2(y)))).

    SCA, simplified channel attention, multiplies each channel by a linear function of all channel means.
    """

    def __init__(self, width: int, expansion: int = 2) -> None:
        super().__init__()
        expanded = width * expansion
        self.norm1 = LayerNorm2d(width)
        self.conv1 = nn.Conv2d(width, expanded, 1)
        self.conv2 = nn.Conv2d(expanded, expanded, 3, padding=1, groups=expanded)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(expanded // 2, expanded // 2, 1))
        self.conv3 = nn.Conv2d(expanded // 2, width, 1)
        self.norm2 = LayerNorm2d(width)
        self.conv4 = nn.Conv2d(width, expanded, 1)
        self.conv5 = nn.Conv2d(expanded // 2, width, 1)
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        gated = _gate(self.conv2(self.conv1(self.norm1(features))))
        features = features + self.conv3(gated * self.sca(gated)) * self.beta
        return features + self.conv5(_gate(self.conv4(self.norm2(features)))) * self.gamma


def _gate(features: Tensor) -> Tensor:
    first, second = features.chunk(2, dim=1)
    return first * second
