"""Spatial pyramid pooling: averages over grids of several sizes, brought back to the map and joined.

(He, Zhang, Ren, Sun: Spatial Pyramid Pooling in Deep Convolutional Networks, ECCV 2014; as in SwiftNet, CVPR 2019.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from within.segmentation.models.norm_relu_conv import NormReluConv, resize

MOMENTUM = 0.005


class SpatialPyramidPooling(nn.Module):
    """Reduces, pools to each grid, reduces each to a third, resizes, joins and fuses.

    Arguments:
        inputs, outputs: channels.
        grids: rows of the grids; a map twice as wide as high is pooled to twice as many columns.
    """

    def __init__(self, inputs: int, outputs: int, grids: Sequence[int] = (8, 4, 2)) -> None:
        super().__init__()
        self.grids = tuple(grids)
        each = outputs // len(self.grids)
        self.first = NormReluConv(inputs, outputs, 1, momentum=MOMENTUM)
        self.levels = nn.ModuleList(NormReluConv(outputs, each, 1, momentum=MOMENTUM) for _ in self.grids)
        self.fuse = NormReluConv(outputs + each * len(self.grids), outputs, 1, momentum=MOMENTUM)

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs height width"]:
        """Returns a map of the same size that knows of its surroundings."""
        height, width = x.shape[-2:]
        x = self.first(x)
        maps = [x]
        for rows, level in zip(self.grids, self.levels, strict=True):
            columns = max(1, round(width / height * rows))
            maps.append(resize(level(F.adaptive_avg_pool2d(x, (rows, columns))), (height, width)))
        return self.fuse(torch.cat(maps, dim=1))
