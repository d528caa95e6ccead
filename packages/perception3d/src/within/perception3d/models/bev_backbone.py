"""The 2-D backbone of SECOND, PointPillars and CenterPoint: blocks of convolutions, brought to one size and joined.

Yan, Mao, Li: SECOND, Sensors 2018. Every convolution is followed by a norm (batch norm or SP-BN) and ReLU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from within.core.errors import WithinError
from within.perception3d.models.bev_layers import (
    BevConvolution,
    BevNorm,
    BevUpsample,
    Reach,
    SpatialSparseNorm,
    relu,
)
from within.perception3d.models.bev_map import BevMap, concatenate

Norm = Literal["batch", "spatial_sparse"]


@dataclass(frozen=True)
class BevBlock:
    """One block.

    Attributes:
        layers: convolutions after the first.
        width: of the convolutions; one number, or one for each.
        stride: of the first.
        upsample: by how much its result is enlarged by a transposed convolution, or below 1 reduced by a convolution.
        upsample_width: channels of that.
    """

    layers: int
    width: int | Sequence[int]
    stride: int
    upsample: float
    upsample_width: int

    @property
    def widths(self) -> tuple[int, ...]:
        """Of each convolution.

        Raises:
            WithinError: when there are more or fewer numbers than convolutions.
        """
        if isinstance(self.width, int):
            return (self.width,) * (self.layers + 1)
        if len(self.width) != self.layers + 1:
            raise WithinError(f"{len(self.width)} widths for {self.layers + 1} convolutions", todo="give one for each")
        return tuple(self.width)


class ConvolutionNormRelu(nn.Module):
    """A convolution (or transposed one), a norm and ReLU over a map in any form."""

    def __init__(self, convolution: BevConvolution | BevUpsample, norm: nn.Module) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm

    def forward(self, x: BevMap) -> Any:
        """Returns a map of the same form."""
        return relu(self.norm(self.convolution(x)))


class BevBackbone(nn.Module):
    """See the module.

    Arguments:
        in_channels: of the map.
        blocks: in order; each takes what the one before gives before it is upsampled.
        norm: "batch", or "spatial_sparse" for SP-BN, which keeps empty places empty.
        reach: how far the convolutions' outputs reach: "grow" or "stay", or one for each convolution.
        affine: whether SP-BN learns a factor for each channel.
    """

    def __init__(
        self,
        in_channels: int = 256,
        blocks: Sequence[BevBlock] = (BevBlock(5, 128, 1, 2, 256),),
        *,
        norm: Norm = "batch",
        reach: Reach | Sequence[Reach] = "grow",
        affine: bool = True,
    ) -> None:
        super().__init__()
        count = sum(block.layers + 1 for block in blocks)
        reaches = [reach] * count if isinstance(reach, str) else list(reach)
        if len(reaches) != count:
            raise WithinError(f"{len(reaches)} reaches for {count} convolutions", todo="give one for each, or one word")
        self.in_channels = in_channels
        following = iter(reaches)
        self.blocks, self.upsamples = nn.ModuleList(), nn.ModuleList()
        for block in blocks:
            layers = []
            for number, width in enumerate(block.widths):
                convolution = BevConvolution(
                    in_channels, width, stride=1 if number else block.stride, reach=next(following)
                )
                layers.append(ConvolutionNormRelu(convolution, make_norm(norm, width, affine)))
                in_channels = width
            self.blocks.append(nn.ModuleList(layers))
            upsample = _resize(block)
            self.upsamples.append(ConvolutionNormRelu(upsample, make_norm(norm, block.upsample_width, affine)))
        self.out_channels = sum(block.upsample_width for block in blocks)

    def forward(self, x: BevMap, before: Callable[[int, BevMap], BevMap] | None = None) -> Any:
        """Returns the joined maps of all blocks.

        Arguments:
            x: a map in any form.
            before: called with the number of each convolution and its input, which it may thin out.
        """
        number, found = 0, []
        for block, upsample in zip(self.blocks, self.upsamples, strict=True):
            for layer in block:  # type: ignore[attr-defined]
                x = layer(x if before is None else before(number, x))
                number += 1
            found.append(upsample(x))
        return concatenate(found)


def _resize(block: BevBlock) -> BevConvolution | BevUpsample:
    if block.upsample >= 1:
        return BevUpsample(block.widths[-1], block.upsample_width, round(block.upsample))
    step = round(1 / block.upsample)
    return BevConvolution(block.widths[-1], block.upsample_width, step, stride=step, padding=0)


def make_norm(norm: Norm, channels: int, affine: bool = True) -> nn.Module:
    """Returns a norm as the published configurations set it: eps 1e-3, momentum 0.01."""
    if norm == "batch":
        return BevNorm(channels, eps=1e-3, momentum=0.01)
    if norm == "spatial_sparse":
        return SpatialSparseNorm(channels, affine=affine)
    raise WithinError(f"There is no norm {norm!r}", todo="choose batch or spatial_sparse")
