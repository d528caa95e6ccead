"""A perceptron applied to every point alike: 1 x 1 convolutions with batch normalisation and ReLU.

Qi, Su, Mo, Guibas: PointNet, CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class PointMLP(nn.Sequential):
    """Convolution, batch norm and ReLU for each width.

    Arguments:
        in_channels: features of a point.
        widths: outputs of each layer.
        axes: 1 for (batch, channels, points), 2 for (batch, channels, centres, neighbours).
    """

    def __init__(self, in_channels: int, widths: int | Sequence[int], *, axes: int = 1) -> None:
        convolution, norm = (nn.Conv1d, nn.BatchNorm1d) if axes == 1 else (nn.Conv2d, nn.BatchNorm2d)
        layers: list[nn.Module] = []
        for width in (widths,) if isinstance(widths, int) else widths:
            layers += [convolution(in_channels, width, 1), norm(width), nn.ReLU(inplace=True)]
            in_channels = width
        super().__init__(*layers)
        self.out_channels = in_channels


class PointLayer(nn.Module):
    """A `PointMLP` in the form of `PVConv`: coordinates are not looked at.

    Arguments:
        in_channels, out_channels: features of a point.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.layers = PointMLP(in_channels, out_channels)

    def forward(self, features: Tensor, points: Tensor) -> Tensor:
        """Returns new features of every point."""
        found: Tensor = self.layers(features)
        return found


def dense_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Returns a linear layer of whole clouds with batch normalisation and ReLU."""
    return nn.Sequential(nn.Linear(in_channels, out_channels), nn.BatchNorm1d(out_channels), nn.ReLU(inplace=True))


def classifier(in_channels: int, widths: Sequence[int | float], outputs: int) -> nn.Sequential:
    """Returns a `PointMLP` with dropout where a width is below 1, and a last layer of scores."""
    layers: list[nn.Module] = []
    for width in widths:
        if width < 1:
            layers.append(nn.Dropout(width))
        else:
            layers.append(PointMLP(in_channels, int(width)))
            in_channels = int(width)
    return nn.Sequential(*layers, nn.Conv1d(in_channels, outputs, 1))
