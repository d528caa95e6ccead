"""SPVCNN: a U-Net of sparse convolutions on a fine grid, beside which every point keeps features of its own.

    y = interpolate(sparse convolutions(mean in voxels(x))) + mlp(x)

Tang, Liu, Zhao, Lin, Lin, Wang, Han: Searching Efficient 3D Architectures with Sparse Point-Voxel Convolution, ECCV
2020. For a scan of SemanticKITTI: x, y, z and intensity of each point, voxels of 5 cm, 19 classes, 21.8 M parameters.
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.perception3d.pvcnn.sparse_points import PointPlaces, points_on, voxels_of
from within.perception3d.sparse import InverseConvolution, SparseConvolution, SparseTensor, SubmanifoldConvolution

WIDTHS = (32, 32, 64, 128, 256, 256, 128, 96, 96)
LEVELS = 4
CELL = 0.05  # metres


class SPVCNN(nn.Module):
    """Scores of every point.

    Arguments:
        classes: outputs.
        in_channels: features of a point.
        width: multiplies all widths.
        dropout: before the decoder's first and third level.
        point_branch: False leaves out the MLPs of the points, which is MinkowskiUNet with the scores interpolated.
    """

    def __init__(
        self, classes: int = 19, *, in_channels: int = 4, width: float = 1.0, dropout: float = 0.3,
        point_branch: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        widths = [int(width * each) for each in WIDTHS]
        first = widths[0]
        self.stem = nn.ModuleList(
            [_Layer(SubmanifoldConvolution(in_channels, first)), _Layer(SubmanifoldConvolution(first, first))]
        )
        self.down, self.up, self.merge = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level in range(LEVELS):
            before, after = widths[level], widths[level + 1]
            strided = SparseConvolution(before, before, 2, stride=2, key=level)
            self.down.append(nn.ModuleList([_Layer(strided), _Residual(before, after), _Residual(after, after)]))
        for level in reversed(range(LEVELS)):
            before, after = widths[2 * LEVELS - 1 - level], widths[2 * LEVELS - level]
            self.up.append(_Layer(InverseConvolution(before, after, 2, key=level)))
            self.merge.append(nn.ModuleList([_Residual(after + widths[level], after), _Residual(after, after)]))
        reached = (widths[0], widths[4], widths[6], widths[8])
        self.point_layers = nn.ModuleList(
            nn.Sequential(nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(inplace=True))
            for before, after in itertools.pairwise(reached)
            if point_branch
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(widths[8], classes)

    def forward(self, features: Float[Tensor, "points in_channels"], places: PointPlaces) -> Tensor:
        """Returns class scores, (points, classes).

        Arguments:
            features: of the points of all clouds.
            places: of the points.

        Raises:
            WithinError: when there are no points, or one lies below the grid.
        """
        voxels, _ = voxels_of(features, places, multiple=2**LEVELS)
        for layer in self.stem:
            voxels = layer(voxels)
        on = points_on(places, voxels, 1)
        points = on.to_points(voxels.features)
        kept = [voxels]
        voxels = voxels.with_features(on.to_voxels(points, len(voxels)))
        for stage in self.down:
            for layer in stage:  # type: ignore[attr-defined]
                voxels = layer(voxels)
            kept.append(voxels)
        voxels = kept.pop()
        for number, (up, merge) in enumerate(zip(self.up, self.merge, strict=True)):
            if number % 2 == 0:  # the points meet the voxels at strides 16, 4 and 1
                voxels, points = self._meet(voxels, points, places, number)
                voxels = voxels.with_features(self.dropout(voxels.features))
            beside = kept.pop()
            voxels = beside.with_features(torch.cat([up(voxels).features, beside.features], dim=1))
            for layer in merge:  # type: ignore[attr-defined]
                voxels = layer(voxels)
        _, points = self._meet(voxels, points, places, LEVELS)
        scores: Tensor = self.classifier(points)
        return scores

    def _meet(
        self, voxels: SparseTensor, points: Tensor, places: PointPlaces, number: int
    ) -> tuple[SparseTensor, Tensor]:
        """Returns voxels and points after they exchanged features before a level of the decoder."""
        on = points_on(places, voxels, 2 ** (LEVELS - number))
        found = on.to_points(voxels.features)
        if len(self.point_layers):
            found = found + self.point_layers[number // 2](points)
        return voxels.with_features(on.to_voxels(found, len(voxels))), found


class _Layer(nn.Module):
    """A convolution, batch norm and, unless something is added first, ReLU."""

    def __init__(
        self, convolution: SubmanifoldConvolution | SparseConvolution | InverseConvolution, *, relu: bool = True
    ) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, nn.BatchNorm1d(convolution.weight.shape[0])
        self.relu = relu

    def forward(self, x: SparseTensor) -> SparseTensor:
        found: SparseTensor = self.convolution(x)
        features = self.norm(found.features)
        return found.with_features(features.relu() if self.relu else features)


class _Residual(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = _Layer(SubmanifoldConvolution(in_channels, out_channels))
        self.second = _Layer(SubmanifoldConvolution(out_channels, out_channels), relu=False)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Linear(in_channels, out_channels, bias=False), nn.BatchNorm1d(out_channels)
            )

    def forward(self, x: SparseTensor) -> SparseTensor:
        found = self.second(self.first(x))
        return found.with_features((found.features + self.shortcut(x.features)).relu())
