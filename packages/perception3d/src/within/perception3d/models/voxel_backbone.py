"""The 3-D backbones of SECOND and CenterPoint, sparse throughout.

    stem       submanifold, to the first width
    stage 1    submanifold blocks
    stage 2..  a strided convolution and blocks; all submanifold layers of a stage share one rulebook
    out        kernel and stride along z alone

Yan, Mao, Li: SECOND, Sensors 2018; the residual form is CenterPoint's: Yin, Zhou, Krähenbühl, CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from within.perception3d.sparse import SparseConvolution, SparseTensor, SubmanifoldConvolution

NORM = {"eps": 1e-3, "momentum": 0.01}


class ConvolutionBlock(nn.Module):
    """A sparse convolution with batch norm and ReLU."""

    def __init__(self, convolution: SubmanifoldConvolution | SparseConvolution, channels: int) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, nn.BatchNorm1d(channels, **NORM)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Returns features at the convolution's outputs."""
        found: SparseTensor = self.convolution(x)
        return found.with_features(F.relu(_normalised(self.norm, found.features), inplace=True))


class ResidualBlock(nn.Module):
    """Two submanifold convolutions around which the input is added.

    Arguments:
        channels: in and out.
        bias: of the convolutions; the published KITTI network has one.
    """

    def __init__(self, channels: int, *, bias: bool = True) -> None:
        super().__init__()
        self.convolution1 = SubmanifoldConvolution(channels, channels, bias=bias)
        self.norm1 = nn.BatchNorm1d(channels, **NORM)
        self.convolution2 = SubmanifoldConvolution(channels, channels, bias=bias)
        self.norm2 = nn.BatchNorm1d(channels, **NORM)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Returns features at the same places."""
        found = self.convolution1(x)
        found = found.with_features(F.relu(_normalised(self.norm1, found.features), inplace=True))
        found = self.convolution2(found)
        return found.with_features(F.relu(_normalised(self.norm2, found.features) + x.features, inplace=True))


class VoxelBackbone(nn.Module):
    """See the module.

    Arguments:
        in_channels: features of a voxel.
        widths: of the stages.
        out_channels: of the last layer.
        residual: two residual blocks a stage; otherwise two plain convolutions, one in the first stage.
        residual_bias: whether convolutions in residual blocks have a bias.
        paddings: of the strided convolutions, of each stage after the first.
    """

    def __init__(
        self,
        in_channels: int = 4,
        widths: Sequence[int] = (16, 32, 64, 128),
        out_channels: int = 128,
        *,
        residual: bool = True,
        residual_bias: bool = True,
        paddings: Sequence[int | Sequence[int]] = (1, 1, (0, 1, 1)),
    ) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.stem = ConvolutionBlock(SubmanifoldConvolution(in_channels, widths[0]), widths[0])
        self.stages = nn.ModuleList()
        for number, width in enumerate(widths):
            layers: list[nn.Module] = []
            if number:
                down = SparseConvolution(widths[number - 1], width, stride=2, padding=paddings[number - 1])
                layers.append(ConvolutionBlock(down, width))
            for _ in range(2 if residual or number else 1):
                layers.append(
                    ResidualBlock(width, bias=residual_bias)
                    if residual
                    else ConvolutionBlock(SubmanifoldConvolution(width, width), width)
                )
            self.stages.append(nn.Sequential(*layers))
        out = SparseConvolution(widths[-1], out_channels, (3, 1, 1), stride=(2, 1, 1))
        self.out = ConvolutionBlock(out, out_channels)

    @property
    def stride(self) -> int:
        """Voxels along x or y in one of the last stage's."""
        return 2 ** (len(self.widths) - 1)

    def forward(
        self, x: SparseTensor, after: Callable[[int, SparseTensor], SparseTensor] | None = None
    ) -> SparseTensor:
        """Returns the voxels of the last layer.

        Arguments:
            x: voxels with their features, over (z, y, x).
            after: called with the number of each stage and its result, which it may thin out.
        """
        x = self.stem(x)
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if after is not None:
                x = after(number, x)
        found: SparseTensor = self.out(x)
        return found


def _normalised(norm: nn.Module, rows: Tensor) -> Tensor:
    if isinstance(norm, nn.BatchNorm1d) and norm.training and len(rows) < 2:  # no variance
        return F.batch_norm(rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    found: Tensor = norm(rows)
    return found
