"""The unit of SwiftNet's decoder: batch normalisation, ReLU, convolution, in this order; and bilinear resizing."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class NormReluConv(nn.Module):
    """BatchNorm, ReLU, Conv k x k.

    Arguments:
        inputs, outputs: channels.
        kernel: odd size of the kernel; the map keeps its size.
        bias: of the convolution.
        momentum: of the running statistics.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, bias: bool = False, momentum: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs, momentum=momentum)
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs height width"]:
        """Returns a map of the same height and width."""
        return self.conv(F.relu(self.norm(x)))


def resize(
    x: Float[Tensor, "batch channels height width"], size: tuple[int, int]
) -> Float[Tensor, "batch channels new_height new_width"]:
    """Returns the map at another height and width, bilinear between pixel centres (align_corners=False)."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
