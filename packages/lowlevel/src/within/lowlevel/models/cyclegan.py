"""The residual generator of CycleGAN.

Zhu, Park, Isola, Efros: Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, ICCV 2017,
after Johnson, Alahi, Fei-Fei: Perceptual Losses for Real-Time Style Transfer and Super-Resolution, ECCV 2016.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class ResnetGenerator(nn.Module):
    """7x7, two stride-2 convolutions, residual blocks, two transposed convolutions, 7x7, tanh; reflection padding.

    Arguments:
        width: channels at full resolution (ngf).
        depth: residual blocks; 9 for 256x256 images, 6 for 128x128.
    """

    scale = 1
    size_multiple = 4

    def __init__(self, channels: int = 3, width: int = 64, depth: int = 9) -> None:
        super().__init__()
        self.head = nn.Sequential(_reflected(channels, width, 7), nn.InstanceNorm2d(width), nn.ReLU(inplace=True))
        self.down = nn.ModuleList(_down(width * factor) for factor in (1, 2))
        self.blocks = nn.Sequential(*(ResnetBlock(4 * width) for _ in range(depth)))
        self.up = nn.ModuleList(_up(width * factor) for factor in (4, 2))
        self.tail = nn.Sequential(_reflected(width, channels, 7), nn.Tanh())
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Returns the translated image; both are in [-1, 1]."""
        features = self.head(image)
        for down in self.down:
            features = down(features)
        features = self.blocks(features)
        for up in self.up:
            features = up(features)
        return self.tail(features)


class ResnetBlock(nn.Module):
    """x + norm(conv(ReLU(norm(conv(x)))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _reflected(width, width, 3)
        self.norm1 = nn.InstanceNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _reflected(width, width, 3)
        self.norm2 = nn.InstanceNorm2d(width)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        return features + self.norm2(self.conv2(self.relu(self.norm1(self.conv1(features)))))


def _reflected(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, padding_mode="reflect")


def _down(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.InstanceNorm2d(2 * width), nn.ReLU(inplace=True)
    )


def _up(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1),
        nn.InstanceNorm2d(width // 2),
        nn.ReLU(inplace=True),
    )
