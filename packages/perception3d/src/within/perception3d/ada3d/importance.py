"""The importance predictor of Ada3D: how likely each place seen from above belongs to an object.

Zhao et al.: Ada3D, ICCV 2023, section 3.2. One small network is shared by all places where it is asked; before it
stands a 1 x 1 convolution of each place's own. It sees features without their gradient: its loss never reaches the
detector.

    3-D place   max pooling to the map's pixels, sum over z, 1 x 1 convolution to 8 channels, times occupancy
    2-D place   1 x 1 convolution to 8 channels
    shared      grouped 3 x 3 convolutions 8 -> 8 -> 16 -> 8 and 1 x 1 to the classes, each with batch norm and sigmoid
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.perception3d.models.bev_layers import BevConvolution, BevNorm
from within.perception3d.models.bev_map import BevMap, dense, sparse
from within.perception3d.sparse import SparseTensor, cells_of, largest_by_row, sum_by_row

WIDTH = 8
EXPANSIONS = (1, 2, 1)


class ImportancePredictor(nn.Module):
    """See the module.

    Arguments:
        voxel_channels: features at each 3-D place, by the number of the stage after which it stands.
        map_channels: features at each 2-D place, by the number of the convolution before which it stands.
        classes: of objects.
        stride: voxels of the input in a pixel of the predictor's map, which is that of the map seen from above.
        occupied_only: compute at occupied places alone (submanifold), which costs a fraction; the published predictor
            is dense.
    """

    def __init__(
        self,
        voxel_channels: Mapping[int, int],
        map_channels: Mapping[int, int],
        classes: int,
        stride: int = 8,
        *,
        occupied_only: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.occupied_only = stride, occupied_only
        self.voxel_embeddings = _embeddings(voxel_channels)
        self.map_embeddings = _embeddings(map_channels)
        widths = [WIDTH, *(WIDTH * expansion for expansion in EXPANSIONS)]
        layers = [
            ConvolutionNormSigmoid(BevConvolution(before, after, groups=WIDTH, reach="stay"), after)
            for before, after in itertools.pairwise(widths)
        ]
        layers.append(ConvolutionNormSigmoid(BevConvolution(widths[-1], classes, 1), classes))
        self.shared = nn.Sequential(*layers)

    def of_voxels(self, stage: int, x: SparseTensor) -> Importance:
        """Returns the importance of the occupied columns, over the predictor's map.

        Arguments:
            stage: number of the stage of the 3-D backbone.
            x: its result.
        """
        features, indices, (depth, *extents) = x.features.detach(), x.indices, x.shape
        factor = max(self.stride // 2**stage, 1)
        if factor > 1:
            steps = torch.tensor([1, 1, factor, factor], dtype=torch.int32, device=indices.device)
            extents = [-(-size // factor) for size in extents]
            rows, cells = cells_of(indices.div(steps, rounding_mode="floor"), x.batch, (depth, *extents))
            features, indices = largest_by_row(features, rows, len(cells)), cells
        shape = (extents[0], extents[1])
        rows, places = cells_of(indices[:, [0, 2, 3]], x.batch, shape)
        summed = SparseTensor(sum_by_row(features, rows, len(places)), places, shape, x.batch)
        return self._importance(self.voxel_embeddings[str(stage)], summed)

    def of_map(self, convolution: int, x: BevMap) -> Importance:
        """Returns the importance of the occupied pixels, in the order of `sparse(x)`.

        Arguments:
            convolution: number of the convolution of the 2-D backbone.
            x: its input.
        """
        found = sparse(x)
        return self._importance(self.map_embeddings[str(convolution)], found.with_features(found.features.detach()))

    def _importance(self, embedding: nn.Module, x: SparseTensor) -> Importance:
        rows = embedding(x)
        if self.occupied_only:
            return Importance(self.shared(rows))
        everywhere = self.shared(dense(rows))
        batch, row, column = x.indices.long().unbind(1)
        return Importance(x.with_features(everywhere[batch, :, row, column]), everywhere)


@dataclass(frozen=True, eq=False)
class Importance:
    """What is predicted at one place.

    Attributes:
        pixels: by class, at the occupied pixels.
        everywhere: by class, over all pixels, where the predictor is dense.
    """

    pixels: SparseTensor
    everywhere: Float[Tensor, "batch classes height width"] | None = None

    def dense(self) -> Float[Tensor, "batch classes height width"]:
        """Returns importance over all pixels, zero where nothing was predicted."""
        return self.pixels.dense() if self.everywhere is None else self.everywhere


class ConvolutionNormSigmoid(nn.Module):
    """A convolution, batch norm and sigmoid over a map in any form."""

    def __init__(self, convolution: BevConvolution, channels: int) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, BevNorm(channels, eps=1e-3, momentum=0.01)

    def forward(self, x: BevMap) -> Any:
        """Returns a map of the same form; a sparse one has no values elsewhere."""
        found = self.norm(self.convolution(x))
        return torch.sigmoid(found) if isinstance(found, Tensor) else found.with_features(torch.sigmoid(found.features))


def _embeddings(channels: Mapping[int, int]) -> nn.ModuleDict:
    return nn.ModuleDict({str(at): BevConvolution(width, WIDTH, 1) for at, width in channels.items()})
