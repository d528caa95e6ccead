"""CARN and CARN-M: cascading residual networks for fast super-resolution.

Ahn, Kang, Sohn: Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual Network, ECCV 2018.
A cascade, inside a block and between blocks:
    o_0 = c_0 = x;  c_i = [c_{i-1}, B_i(o_{i-1})];  o_i = ReLU(1x1(c_i))
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)


class CARN(nn.Module):
    """One trunk with an upsampling head for each of several factors.

    Arguments:
        scale: the factor whose head the forward uses, one of `scales`; may be changed later.
        scales: factors that have a head.
        groups: groups of the 3x3 convolutions of units and heads (CARN-M: 4).
        shared: one unit with two grouped convolutions and a 1x1, used three times in each block (CARN-M).
    """

    size_multiple = 1

    def __init__(
        self,
        width: int = 64,
        *,
        scale: int = 4,
        scales: Sequence[int] = (2, 3, 4),
        groups: int = 1,
        shared: bool = False,
    ) -> None:
        super().__init__()
        if scale not in scales:
            raise WithinError(f"This CARN has no head for x{scale}", todo=f"choose one of {sorted(scales)}")
        self.scale = scale
        self.subtract_mean = _mean_shift([-value for value in DIV2K_MEAN])
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(CascadingBlock(width, groups=groups, shared=shared) for _ in range(3))
        self.fuse = _fusions(width)
        self.upsample = nn.ModuleDict({str(factor): _upsampler(width, factor, groups) for factor in scales})
        self.tail = nn.Conv2d(width, 3, 3, padding=1)
        self.add_mean = _mean_shift(DIV2K_MEAN)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 out_height out_width"]:
        """Returns the image, `scale` times as high and wide."""
        features = _cascade(self.head(self.subtract_mean(image)), list(self.blocks), self.fuse)
        return self.add_mean(self.tail(self.upsample[str(self.scale)](features)))


class CascadingBlock(nn.Module):
    """Three residual units in a cascade; `shared`: the same unit three times."""

    def __init__(self, width: int, *, groups: int, shared: bool) -> None:
        super().__init__()
        self.units = nn.ModuleList(ResidualUnit(width, groups, pointwise=shared) for _ in range(1 if shared else 3))
        self.fuse = _fusions(width)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        units = [self.units[step % len(self.units)] for step in range(3)]
        return _cascade(features, units, self.fuse)


class ResidualUnit(nn.Module):
    """conv ReLU conv [ReLU 1x1], the input added, ReLU."""

    def __init__(self, width: int, groups: int, *, pointwise: bool) -> None:
        super().__init__()
        groups = groups if pointwise else 1
        layers: list[nn.Module] = [
            nn.Conv2d(width, width, 3, padding=1, groups=groups),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, groups=groups),
        ]
        if pointwise:
            layers += [nn.ReLU(inplace=True), nn.Conv2d(width, width, 1)]
        self.body = nn.Sequential(*layers)

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        return torch.relu(self.body(features) + features)


def _cascade(features: Tensor, stages: Sequence[nn.Module], fusions: nn.ModuleList) -> Tensor:
    collected = output = features
    for stage, fuse in zip(stages, fusions, strict=True):
        collected = torch.cat((collected, stage(output)), dim=1)
        output = fuse(collected)
    return output


def _fusions(width: int) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Sequential(nn.Conv2d(count * width, width, 1), nn.ReLU(inplace=True)) for count in (2, 3, 4)
    )


def _upsampler(width: int, factor: int, groups: int) -> nn.Sequential:
    steps = {2: (2,), 3: (3,), 4: (2, 2)}[factor]
    layers: list[nn.Module] = []
    for step in steps:
        layers += [
            nn.Conv2d(width, width * step**2, 3, padding=1, groups=groups),
            nn.ReLU(inplace=True),
            nn.PixelShuffle(step),
        ]
    return nn.Sequential(*layers)


def _mean_shift(offset: Sequence[float]) -> nn.Conv2d:
    """A frozen 1x1 convolution that adds `offset`; the published counts include it."""
    shift = nn.Conv2d(3, 3, 1)
    nn.init.dirac_(shift.weight)
    with torch.no_grad():
        for channel, value in enumerate(offset):
            shift.bias[channel] = value
    return shift.requires_grad_(False)
