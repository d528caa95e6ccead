"""Batch normalisation of a network that is applied to several levels of an image pyramid: one copy a level.

Convolutions are shared between the levels, statistics and affine parameters are not (Orsic and Segvic, Efficient
Semantic Segmentation with Pyramidal Fusion, Pattern Recognition 2021).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class LevelNorm(nn.Module):
    """One BatchNorm2d for every level.

    Arguments:
        channels: of the map.
        levels: of the pyramid; 1 is an ordinary batch normalisation.
    """

    def __init__(self, channels: int, levels: int = 1) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(levels))

    def forward(
        self, x: Float[Tensor, "batch channels height width"], level: int
    ) -> Float[Tensor, "batch channels height width"]:
        """Returns the map, normalised by the copy of this level (0 is the full image)."""
        return self.levels[level](x)
