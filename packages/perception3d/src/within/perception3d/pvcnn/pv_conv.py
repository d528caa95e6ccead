"""PVConv: neighbours meet in a coarse voxel grid, and every point keeps features of its own.

Liu, Tang, Lin, Han: Point-Voxel CNN for Efficient 3D Deep Learning, NeurIPS 2019, figure 3.

    y = devoxelise(conv(voxelise(x))) + mlp(x)
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from within.perception3d.pvcnn.point_mlp import PointMLP
from within.perception3d.pvcnn.voxel_grid import devoxelise, grid_coordinates, voxelise

NORM_EPSILON, SLOPE = 1e-4, 0.1


class PVConv(nn.Module):
    """One point-voxel convolution.

    Arguments:
        in_channels, out_channels: features of a point.
        resolution: cells along each side of the grid.
        kernel_size: of the two voxel convolutions; odd.
        squeeze_excitation: scale the channels of the grid by a gate on its mean.
        normalise, epsilon: see `grid_coordinates`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        resolution: int,
        *,
        kernel_size: int = 3,
        squeeze_excitation: bool = False,
        normalise: bool = True,
        epsilon: float = 0.0,
    ) -> None:
        super().__init__()
        self.resolution, self.normalise, self.epsilon = resolution, normalise, epsilon
        layers: list[nn.Module] = []
        for inputs in (in_channels, out_channels):
            layers += [
                nn.Conv3d(inputs, out_channels, kernel_size, padding=kernel_size // 2),
                nn.BatchNorm3d(out_channels, eps=NORM_EPSILON),
                nn.LeakyReLU(SLOPE, inplace=True),
            ]
        if squeeze_excitation:
            layers.append(SqueezeExcitation(out_channels))
        self.voxel_layers = nn.Sequential(*layers)
        self.point_layers = PointMLP(in_channels, out_channels)

    def forward(
        self, features: Float[Tensor, "batch in_channels points"], points: Float[Tensor, "batch 3 points"]
    ) -> Float[Tensor, "batch out_channels points"]:
        """Returns new features of every point."""
        places = grid_coordinates(points, self.resolution, normalise=self.normalise, epsilon=self.epsilon)
        grid = self.voxel_layers(voxelise(features, places, self.resolution))
        return devoxelise(grid, places) + self.point_layers(features)


class SqueezeExcitation(nn.Module):
    """A gate for each channel, from its mean over the grid (Hu, Shen, Sun: Squeeze-and-Excitation, CVPR 2018).

    Arguments:
        channels: of the grid.
        reduction: of the hidden layer.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.gate = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, grid: Float[Tensor, "batch channels x y z"]) -> Float[Tensor, "batch channels x y z"]:
        """Returns the grid with its channels scaled."""
        return grid * self.gate(grid.mean((2, 3, 4)))[:, :, None, None, None]
