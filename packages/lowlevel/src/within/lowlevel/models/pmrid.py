"""PMRID: a light U-Net of separable convolutions for raw images of mobile phones.

Wang, Huang, Xu, Liu, Liu, Wang: Practical Deep Raw Image Denoising on Mobile Devices, ECCV 2020.
"""

from __future__ import annotations

from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn


class PMRID(nn.Module):
    """Four encoder stages of separable 5x5 blocks, four decoder stages that add their skips."""

    scale = 1
    size_multiple = 16

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU())
        self.encoder1 = _encoder_stage(16, 64, 2)
        self.encoder2 = _encoder_stage(64, 128, 2)
        self.encoder3 = _encoder_stage(128, 256, 4)
        self.encoder4 = _encoder_stage(256, 512, 4)
        self.bottleneck = _separable(512, 64, 3, relu=True)
        self.decoder1 = DecoderStage(64, 256, 64)
        self.decoder2 = DecoderStage(64, 128, 32)
        self.decoder3 = DecoderStage(32, 64, 32)
        self.decoder4 = DecoderStage(32, 16, 16)
        self.refine = ResidualSeparable(16)
        self.tail = nn.Conv2d(16, channels, 3, padding=1)

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Returns the clean image.

        Arguments:
            image: packed RGGB planes. The published weights expect them after the k-sigma transform, times 256.
        """
        full = self.head(image)
        half = self.encoder1(full)
        quarter = self.encoder2(half)
        eighth = self.encoder3(quarter)
        sixteenth = self.encoder4(eighth)
        narrowed = self.bottleneck(sixteenth)
        eighth_up = self.decoder1(narrowed, eighth)
        quarter_up = self.decoder2(eighth_up, quarter)
        half_up = self.decoder3(quarter_up, half)
        full_up = self.decoder4(half_up, full)
        return image + self.tail(self.refine(full_up))


class EncoderBlock(nn.Module):
    """ReLU(project(x) + two separable 5x5 convolutions of x); the projection is the identity where shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        middle = out_channels // 4
        self.conv1 = _separable(in_channels, middle, 5, stride=stride, relu=True)
        self.conv2 = _separable(middle, out_channels, 5)
        same = stride == 1 and in_channels == out_channels
        self.project = nn.Identity() if same else _separable(in_channels, out_channels, 3, stride=stride)
        self.relu = nn.ReLU()

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        projected = self.project(features)
        return self.relu(self.conv2(self.conv1(features)) + projected)


class DecoderStage(nn.Module):
    """Refine, double the size, add the projected skip."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.refine = ResidualSeparable(in_channels)
        self.upsample = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.project = _separable(skip_channels, out_channels, 3, relu=True)

    def forward(
        self,
        features: Float[Tensor, "batch channels height width"],
        skip: Float[Tensor, "batch skip_channels out_height out_width"],
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        enlarged = self.upsample(self.refine(features))
        return enlarged + self.project(skip)


class ResidualSeparable(nn.Module):
    """x + two separable 3x3 convolutions of x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _separable(width, width, 3, relu=True)
        self.conv2 = _separable(width, width, 3)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        return self.conv2(self.conv1(features)) + features


def _encoder_stage(in_channels: int, out_channels: int, depth: int) -> nn.Sequential:
    first = EncoderBlock(in_channels, out_channels, stride=2)
    return nn.Sequential(first, *(EncoderBlock(out_channels, out_channels, stride=1) for _ in range(depth - 1)))


def _separable(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, relu: bool = False
) -> nn.Sequential:
    """A depthwise convolution without bias, then a pointwise one with bias."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        depthwise=nn.Conv2d(
            in_channels, in_channels, kernel_size, stride, kernel_size // 2, groups=in_channels, bias=False
        ),
        pointwise=nn.Conv2d(in_channels, out_channels, 1),
    )
    if relu:
        layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)
