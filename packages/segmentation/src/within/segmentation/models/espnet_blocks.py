"""What ESPNet and ESPNetv2 are built of: padded convolutions, their activation, and the spatial pyramid of dilations.

Mehta, Rastegari, Caspi, Shapiro, Hajishirzi: ESPNet: Efficient Spatial Pyramid of Dilated Convolutions for Semantic
Segmentation, ECCV 2018. Branches of growing dilation d_1 < d_2 < ... are summed up as they grow, so that the gaps
between the taps of a wide branch are filled by the narrower ones ("hierarchical feature fusion"):

    y_1 = x * k_1,   y_n = x * k_n + y_{n-1},   output = concat(y_1, y_2, ...)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError

DILATIONS = (1, 2, 4, 8, 16)


class BatchNormPReLU(nn.Module):
    """Batch normalisation, then max(x, 0) + slope min(x, 0) with a slope for each channel.

    Arguments:
        channels: in and out.
        epsilon: added to the variance.
    """

    def __init__(self, channels: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=epsilon)
        self.activation = nn.PReLU(channels)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Returns features of the same shape."""
        return self.activation(self.norm(features))


class ConvBatchNormPReLU(nn.Module):
    """A padded convolution without bias, normalised and activated; arguments as those of `convolution`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.convolution = convolution(in_channels, out_channels, kernel_size, stride=stride, groups=groups)
        self.normalised = BatchNormPReLU(out_channels, epsilon)

    def forward(
        self, features: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        """Returns features at 1 / `stride` of the size, rounded up."""
        return self.normalised(self.convolution(features))


def convolution(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Returns a convolution without bias that keeps the size (divided by `stride`, rounded up)."""
    padding = (kernel_size - 1) // 2 * dilation
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False)


def check_size(network: str, image: Float[Tensor, "batch 3 height width"], multiple: int) -> None:
    """Raises a WithinError where height or width of an image is not a multiple of what the network needs."""
    height, width = image.shape[-2:]
    if height % multiple or width % multiple:
        raise WithinError(
            f"{network} takes sizes that are multiples of {multiple}, not {height} x {width}",
            todo=f"resize or pad to {height + -height % multiple} x {width + -width % multiple}",
        )


class ESPModule(nn.Module):
    """Reduce, split, transform, merge: a narrow projection seen through five dilations, fused and concatenated.

    Arguments:
        in_channels: of the input.
        out_channels: a fifth of them (rounded down) is the width of the projection and of all branches but the first,
            which takes what is left over.
        stride: 1, or 2 for a projection by a 3x3 convolution that halves the size.
        residual: add the input before the normalisation.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, residual: bool = True) -> None:
        super().__init__()
        width = out_channels // len(DILATIONS)
        first = out_channels - (len(DILATIONS) - 1) * width
        self.residual = residual
        self.reduce = convolution(in_channels, width, 1 if stride == 1 else 3, stride=stride)
        self.transform = nn.ModuleList(
            convolution(width, first if dilation == 1 else width, 3, dilation=dilation) for dilation in DILATIONS
        )
        self.normalised = BatchNormPReLU(out_channels, 1e-3)

    def forward(
        self, features: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch out_channels out_height out_width"]:
        """Returns features at 1 / `stride` of the size, rounded up."""
        reduced = self.reduce(features)
        narrowest, *wider = (branch(reduced) for branch in self.transform)
        merged = torch.cat((narrowest, *running_sums(wider)), dim=1)  # the first branch, of another width, is not added
        return self.normalised(features + merged if self.residual else merged)


def running_sums(branches: Sequence[Tensor]) -> list[Tensor]:
    """Returns y_1, y_1 + y_2, y_1 + y_2 + y_3, ...: the hierarchical fusion of branches of one shape."""
    fused = [branches[0]]
    for branch in branches[1:]:
        fused.append(branch + fused[-1])
    return fused
