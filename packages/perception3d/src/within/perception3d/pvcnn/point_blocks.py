"""Layers of points as the configurations of PVCNN list them: (width, how many, resolution or None for no voxels)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from within.perception3d.pvcnn.point_mlp import PointLayer
from within.perception3d.pvcnn.pv_conv import PVConv

Block = tuple[int, int, int | None]


def point_blocks(
    blocks: Sequence[Block],
    in_channels: int,
    *,
    width: float = 1.0,
    resolution: float = 1.0,
    squeeze_excitation: bool = False,
    normalise: bool = True,
    epsilon: float = 0.0,
) -> tuple[nn.ModuleList, list[int]]:
    """Returns the layers, each called with features and points, and the width of each.

    Arguments:
        blocks: see the module.
        in_channels: features of a point.
        width, resolution: multiply those of the blocks.
        squeeze_excitation, normalise, epsilon: see `PVConv`.
    """
    layers, widths = nn.ModuleList(), []
    for channels, count, cells in blocks:
        out = int(width * channels)
        for _ in range(count):
            if cells is None:
                layers.append(PointLayer(in_channels, out))
            else:
                layers.append(
                    PVConv(
                        in_channels,
                        out,
                        int(resolution * cells),
                        squeeze_excitation=squeeze_excitation,
                        normalise=normalise,
                        epsilon=epsilon,
                    )
                )
            widths.append(out)
            in_channels = out
    return layers, widths
