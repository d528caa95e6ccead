"""IMDN: information multi-distillation network for light super-resolution, and its residual form.

Hui, Gao, Yang, Wang: Lightweight Image Super-Resolution with Information Multi-distillation Network, ACM MM 2019.
The residual form won the AIM 2019 constrained super-resolution challenge; 12 channels wide, the AI in RTC challenge.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class IMDN(nn.Module):
    """Blocks whose outputs are all concatenated, fused and added to the first features.

    Arguments:
        channels: image channels.
        width: features; a quarter is distilled at every step.
        depth: number of blocks.
        scale: upscaling factor, 2, 3 or 4.
    """

    size_multiple = 1

    def __init__(self, channels: int = 3, width: int = 64, depth: int = 6, *, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(DistillationBlock(width, attention=True) for _ in range(depth))
        self.fuse = nn.Sequential(nn.Conv2d(width * depth, width, 1), nn.LeakyReLU(0.05, inplace=True))
        self.tail = nn.Conv2d(width, width, 3, padding=1)
        self.upsample = nn.Sequential(nn.Conv2d(width, channels * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels out_height out_width"]:
        """Returns the image, `scale` times as high and wide."""
        first = self.head(image)
        features, outputs = first, []
        for block in self.blocks:
            features = block(features)
            outputs.append(features)
        fused = self.fuse(torch.cat(outputs, dim=1))
        return self.upsample(self.tail(fused) + first)


class ResidualIMDN(nn.Module):
    """Blocks without attention in one chain under a single skip.

    Arguments:
        width, depth, tail_kernel: 12, 5, 1 for the RTC winner; 64, 8, 3 for the AIM 2019 winner.
        tail_kernel: kernel size of the convolution after the blocks.
    """

    size_multiple = 1

    def __init__(
        self, channels: int = 3, width: int = 12, depth: int = 5, *, tail_kernel: int = 1, scale: int = 2
    ) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.Sequential(*(DistillationBlock(width, attention=False) for _ in range(depth)))
        self.tail = nn.Conv2d(width, width, tail_kernel, padding=tail_kernel // 2)
        self.upsample = nn.Sequential(nn.Conv2d(width, channels * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels out_height out_width"]:
        """Returns the image, `scale` times as high and wide."""
        first = self.head(image)
        return self.upsample(first + self.tail(self.blocks(first)))


class DistillationBlock(nn.Module):
    """Three times: convolve, keep the first quarter, pass the rest on. Then fuse what was kept, and add the input.

    How many channels are passed on is read off the next convolution, so the block stays right when channels are cut.
    """

    def __init__(self, width: int, *, attention: bool) -> None:
        super().__init__()
        distilled = width // 4
        remaining = width - distilled
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(remaining, width, 3, padding=1)
        self.conv3 = nn.Conv2d(remaining, width, 3, padding=1)
        self.conv4 = nn.Conv2d(remaining, distilled, 3, padding=1)
        self.activation = nn.LeakyReLU(0.05, inplace=True)
        self.attention = ContrastAttention(4 * distilled) if attention else nn.Identity()
        self.fuse = nn.Conv2d(4 * distilled, width, 1)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        kept1, passed = _distil(self.activation(self.conv1(features)), self.conv2.in_channels)
        kept2, passed = _distil(self.activation(self.conv2(passed)), self.conv3.in_channels)
        kept3, passed = _distil(self.activation(self.conv3(passed)), self.conv4.in_channels)
        kept4 = self.conv4(passed)
        kept = torch.cat((kept1, kept2, kept3, kept4), dim=1)
        return self.fuse(self.attention(kept)) + features


class ContrastAttention(nn.Module):
    """Channel attention on mean + standard deviation of each channel, which tells textured from flat ones."""

    def __init__(self, width: int, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, width // reduction, 1)
        self.excite = nn.Conv2d(width // reduction, width, 1)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        contrast = features.std(dim=(2, 3), correction=0, keepdim=True) + features.mean(dim=(2, 3), keepdim=True)
        return features * torch.sigmoid(self.excite(torch.relu(self.squeeze(contrast))))


def _distil(features: Tensor, passed: int) -> tuple[Tensor, Tensor]:
    kept, remaining = features.split((features.shape[1] - passed, passed), dim=1)
    return kept, remaining
