"""The units of ESPNetv2: spatial pyramids of depthwise dilations, and the decoder's pooling at five sizes.

Mehta, Rastegari, Shapiro, Hajishirzi: ESPNetv2: A Light-weight, Power Efficient, and General Purpose Convolutional
Neural Network, CVPR 2019; the decoder is that of the authors' EdgeNets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from within.segmentation.models.espnet_blocks import BatchNormPReLU, ConvBatchNormPReLU, convolution, running_sums

BRANCHES = 4
POOLED_SIZES = (2.0, 1.5, 1.0, 0.5, 0.1)
LEAST_POOLED_SIZE = 5


class EESP(nn.Module):
    """Extremely efficient spatial pyramid: a grouped projection, depthwise dilations summed up, a grouped expansion.

    Arguments:
        in_channels, out_channels: multiples of four.
        dilations: of the four branches, in ascending order.
        stride: of the branches.
    """

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int], *, stride: int = 1) -> None:
        super().__init__()
        width = out_channels // BRANCHES
        self.reduce = ConvBatchNormPReLU(in_channels, width, 1, groups=BRANCHES)
        self.transform = nn.ModuleList(
            convolution(width, width, 3, stride=stride, dilation=dilation, groups=width) for dilation in dilations
        )
        self.normalised = BatchNormPReLU(out_channels)
        self.expand = convolution(out_channels, out_channels, 1, groups=BRANCHES)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(
        self, features: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        """Returns features that are normalised and not yet activated."""
        reduced = self.reduce(features)
        merged = torch.cat(running_sums([branch(reduced) for branch in self.transform]), dim=1)
        return self.norm(self.expand(self.normalised(merged)))


class ResidualEESP(nn.Module):
    """An EESP unit with its input added, then activated."""

    def __init__(self, channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.pyramid = EESP(channels, channels, dilations)
        self.activation = nn.PReLU(channels)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Returns features of the same shape."""
        return self.activation(self.pyramid(features) + features)


class StridedEESP(nn.Module):
    """Halves the size: the averaged input beside an EESP unit of stride 2, with the small image added to both.

    The public code holds slopes for the unit that it never applies. They are part of the published counts and files, so
    they are kept here, as `unused_slopes`.

    Arguments:
        in_channels, out_channels: the difference is the width of the EESP unit.
        dilations: of its branches.
    """

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.average = nn.AvgPool2d(3, stride=2, padding=1)
        self.pyramid = EESP(in_channels, out_channels - in_channels, dilations, stride=2)
        self.unused_slopes = nn.Parameter(torch.full((out_channels - in_channels,), 0.25), requires_grad=False)
        self.image_features = ConvBatchNormPReLU(3, 3, 3)
        self.image_expand = convolution(3, out_channels, 1)
        self.image_norm = nn.BatchNorm2d(out_channels)
        self.activation = nn.PReLU(out_channels)

    def forward(
        self,
        features: Float[Tensor, "batch in_channels height width"],
        small_image: Float[Tensor, "batch 3 out_height out_width"],
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        """Returns features at half the size.

        Arguments:
            features: of the level before.
            small_image: the image, averaged down to the size of the result.
        """
        joined = torch.cat((self.average(features), self.pyramid(features)), dim=1)
        return self.activation(joined + self.image_norm(self.image_expand(self.image_features(small_image))))


class PyramidPooling(nn.Module):
    """Few channels, resized to five sizes, each through a depthwise convolution of its own, sized back and merged.

    Arguments:
        in_channels: of the input.
        width: channels in between.
        out_channels: of the result.
        last: give plain scores with a bias instead of normalised and activated features.
    """

    def __init__(self, in_channels: int, width: int, out_channels: int, *, last: bool = False) -> None:
        super().__init__()
        scales = len(POOLED_SIZES)
        self.reduce = ConvBatchNormPReLU(in_channels, width, 1)
        self.scales = nn.ModuleList(convolution(width, width, 3, groups=width) for _ in range(scales))
        self.normalised = BatchNormPReLU(width * scales)
        self.merge = ConvBatchNormPReLU(width * scales, width, 3, groups=width)
        self.expand = nn.Conv2d(width, out_channels, 1, bias=last)
        self.out_normalised = nn.Identity() if last else BatchNormPReLU(out_channels)

    def forward(
        self, features: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Returns features, or scores, of the same size."""
        reduced = self.reduce(features)
        branches = [_seen_at(scale, reduced, layer) for scale, layer in zip(POOLED_SIZES, self.scales, strict=True)]
        joined = self.normalised(torch.cat(branches, dim=1))
        # Channels by scale become scales by channel: each group of the merging convolution reads one channel's scales.
        shuffled = joined.unflatten(1, (len(branches), -1)).transpose(1, 2).flatten(1, 2)
        return self.out_normalised(self.expand(self.merge(shuffled)))


class GatedProjection(nn.Module):
    """A grouped convolution to the decoder's width, each of its channels scaled by what the whole image says.

    Arguments:
        in_channels, out_channels: their greatest common divisor is the number of groups.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.project = ConvBatchNormPReLU(in_channels, out_channels, 3, groups=math.gcd(in_channels, out_channels))

    def forward(
        self, features: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Returns features of the same size."""
        gates = torch.sigmoid(self.gate(F.adaptive_avg_pool2d(features, 1)))
        return self.project(features) * gates


def _seen_at(scale: float, features: Tensor, layer: nn.Module) -> Tensor:
    """Applies a layer at another size: averages where the size shrinks, interpolates where it grows."""
    if scale == 1.0:
        return layer(features)
    size = (features.shape[-2], features.shape[-1])
    height, width = (max(math.ceil(length * scale), LEAST_POOLED_SIZE) for length in size)
    if scale < 1.0:
        return resize(layer(F.adaptive_avg_pool2d(features, (height, width))), size)
    return F.adaptive_avg_pool2d(layer(resize(features, (height, width))), size)


def resize(features: Float[Tensor, "batch channels height width"], size: Sequence[int]) -> Tensor:
    """Returns features of another size, interpolated bilinearly with the corner pixels kept in place."""
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=True)
