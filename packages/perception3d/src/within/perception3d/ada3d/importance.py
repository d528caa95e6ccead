"""The importance predictor of Ada3D: how likely each place seen from above belongs to an object.

Zhao et al.: Ada3D, ICCV 2023, section 3.2. One small network is shared by all places where it is asked; before it
stands a 1 x 1 convolution of each place's own. It sees features without their gradient: its loss never reaches the
detector.

    3-D place   max pooling to the map's pixels, sum over z, 1 x 1 convolution to 8 channels, times occupancy
    2-D place   1 x 1 convolution to 8 channels
    shared      grouped 3 x 3 convolutions 8 -> 8 -> 16 -> 8 and 1 x 1 to the classes, each with batch norm and sigmoid
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from within.perception3d.models.bev_map import BevMap, dense, occupied
from within.perception3d.sparse import SparseMaxPool, SparseTensor

WIDTH = 8
EXPANSIONS = (1, 2, 1)


class ImportancePredictor(nn.Module):
    """See the module.

    Arguments:
        voxel_channels: features at each 3-D place, by the number of the stage after which it stands.
        map_channels: features at each 2-D place, by the number of the convolution before which it stands.
        classes: of objects.
        stride: voxels of the input in a pixel of the predictor's map, which is that of the map seen from above.
    """

    def __init__(
        self, voxel_channels: Mapping[int, int], map_channels: Mapping[int, int], classes: int, stride: int = 8
    ) -> None:
        super().__init__()
        self.stride = stride
        self.voxel_embeddings = _embeddings(voxel_channels)
        self.map_embeddings = _embeddings(map_channels)
        layers: list[nn.Module] = []
        before = WIDTH
        for expansion in EXPANSIONS:
            width = WIDTH * expansion
            layers += [nn.Conv2d(before, width, 3, padding=1, groups=WIDTH, bias=False), _norm(width), nn.Sigmoid()]
            before = width
        layers += [nn.Conv2d(before, classes, 1, bias=False), _norm(classes), nn.Sigmoid()]
        self.shared = nn.Sequential(*layers)

    def of_voxels(
        self, stage: int, x: SparseTensor
    ) -> tuple[Float[Tensor, "batch classes height width"], Bool[Tensor, "batch height width"]]:
        """Returns importance by class and occupancy, over the predictor's map.

        Arguments:
            stage: number of the stage of the 3-D backbone.
            x: its result.
        """
        features = x.with_features(x.features.detach())
        factor = max(self.stride // 2**stage, 1)
        if factor > 1:
            features = SparseMaxPool((1, factor, factor))(_padded(features, factor))
        batch, _, row, column = features.indices.long().unbind(1)
        height, width = features.shape[1:]
        cells = (batch * height + row) * width + column
        total = features.features.new_zeros(x.batch * height * width, x.channels)
        total = total.index_add(0, cells, features.features)
        mask = torch.zeros(len(total), dtype=torch.bool, device=total.device)
        mask[cells] = True
        rows = _embedded(self.voxel_embeddings[str(stage)], total[mask])
        embedded = rows.new_zeros(len(total), WIDTH).index_put((mask.nonzero()[:, 0],), rows)
        shape = (x.batch, height, width)
        return self.shared(embedded.view(*shape, -1).movedim(-1, 1)), mask.view(shape)

    def of_map(
        self, convolution: int, x: BevMap
    ) -> tuple[Float[Tensor, "batch classes height width"], Bool[Tensor, "batch height width"]]:
        """Returns importance by class and occupancy, over the map.

        Arguments:
            convolution: number of the convolution of the 2-D backbone.
            x: its input.
        """
        layer = self.map_embeddings[str(convolution)]
        if isinstance(x, SparseTensor):
            rows = _embedded(layer, x.features.detach())
            return self.shared(dense(x.with_features(rows))), occupied(x)
        return self.shared(layer(dense(x).detach())), occupied(x)


def _embeddings(channels: Mapping[int, int]) -> nn.ModuleDict:
    return nn.ModuleDict({str(at): nn.Conv2d(width, WIDTH, 1, bias=False) for at, width in channels.items()})


def _embedded(layer: nn.Module, rows: Tensor) -> Tensor:
    found: Tensor = layer(rows[:, :, None, None])
    return found[:, :, 0, 0]


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _padded(x: SparseTensor, factor: int) -> SparseTensor:
    """Returns the same voxels in a grid whose extents on the ground are whole multiples."""
    depth, height, width = x.shape
    shape = (depth, -(-height // factor) * factor, -(-width // factor) * factor)
    return SparseTensor(x.features, x.indices, shape, x.batch)
