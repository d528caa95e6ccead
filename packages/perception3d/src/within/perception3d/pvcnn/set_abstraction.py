"""Layers of PointNet++: features of neighbourhoods around sampled centres, and the way back to all points.

Qi, Yi, Su, Guibas: PointNet++: Deep Hierarchical Feature Learning on Point Sets in a Metric Space, NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from within.perception3d.pvcnn.neighbours import ball_query, farthest_points, gather, interpolate
from within.perception3d.pvcnn.point_mlp import PointMLP


class SetAbstraction(nn.Module):
    """Samples centres and gives each the largest features of its neighbours, at one or several radii.

    Arguments:
        in_channels: features of a point, coordinates not counted; 0 for none.
        centres: how many are sampled.
        radii, neighbours, widths: of each scale.
    """

    def __init__(
        self, in_channels: int, centres: int, radii: Sequence[float], neighbours: Sequence[int],
        widths: Sequence[Sequence[int]],
    ) -> None:  # fmt: skip
        super().__init__()
        self.centres, self.radii, self.neighbours = centres, tuple(radii), tuple(neighbours)
        self.mlps = nn.ModuleList(PointMLP(in_channels + 3, each, axes=2) for each in widths)
        self.out_channels = sum(each[-1] for each in widths)

    def forward(self, features: Tensor | None, points: Tensor) -> tuple[Tensor, Tensor]:
        """Returns features and coordinates of the centres.

        Arguments:
            features: (batch, in_channels, points), or None.
            points: (batch, 3, points).
        """
        centres = gather(points, farthest_points(points, self.centres))
        found = []
        for mlp, radius, count in zip(self.mlps, self.radii, self.neighbours, strict=True):
            rows = ball_query(centres, points, radius, count)
            grouped = gather(points, rows) - centres[:, :, :, None]
            if features is not None:
                grouped = torch.cat([grouped, gather(features, rows)], dim=1)
            found.append(mlp(grouped).amax(3))
        return torch.cat(found, dim=1), centres


class GlobalAbstraction(nn.Module):
    """The largest features of all points, at the origin.

    Arguments:
        in_channels: features of a point, coordinates not counted.
        widths: of the layers.
    """

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.mlps = nn.ModuleList([PointMLP(in_channels + 3, widths)])
        self.out_channels = widths[-1]

    def forward(self, features: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Returns features (batch, out_channels, 1) and the origin."""
        found = self.mlps[0](torch.cat([features, points], dim=1)).amax(2, keepdim=True)
        return found, points.new_zeros(points.shape[0], 3, 1)


class FeaturePropagation(nn.Module):
    """Brings features of centres to more points, beside features those points had.

    Arguments:
        in_channels: of the centres and of the points together.
        widths: of the layers.
    """

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.mlp = PointMLP(in_channels, widths)
        self.out_channels = widths[-1]

    def forward(self, points: Tensor, centres: Tensor, features: Tensor, own: Tensor | None) -> Tensor:
        """Returns features of the points.

        Arguments:
            points, centres: coordinates.
            features: of the centres.
            own: of the points, or None.
        """
        found = interpolate(points, centres, features)
        joined: Tensor = self.mlp(found if own is None else torch.cat([found, own], dim=1))
        return joined
