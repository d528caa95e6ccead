"""From voxels to a map seen from above: the layers along z become channels, channel by channel."""

from __future__ import annotations

from typing import Literal

import torch

from within.perception3d.models.bev_map import BevMap, MaskedMap
from within.perception3d.sparse import SparseTensor

Execution = Literal["dense", "masked", "sparse"]


def compress_height(x: SparseTensor, execution: Execution) -> BevMap:
    """Returns a map with channels * depth features.

    Arguments:
        x: voxels over (z, y, x), or already pixels over (y, x).
        execution: the form of the map: all pixels, those with a mask, or the occupied ones alone.
    """
    flat = x if len(x.shape) == 2 else _columns(x)
    if execution == "sparse":
        return flat
    dense = flat.dense()
    if execution == "dense":
        return dense
    mask = torch.zeros(flat.batch, *flat.shape, dtype=torch.bool, device=dense.device)
    mask[flat.indices.long().unbind(1)] = True
    return MaskedMap(dense, mask)


def _columns(x: SparseTensor) -> SparseTensor:
    depth, height, width = x.shape
    batch, z, row, column = x.indices.long().unbind(1)
    cells = torch.full((x.batch * height * width,), -1, dtype=torch.int64, device=x.indices.device)
    keys = (batch * height + row) * width + column
    cells[keys] = 0
    places = (cells == 0).nonzero()[:, 0]
    cells[places] = torch.arange(len(places), device=places.device)
    layers = x.features.new_zeros(len(places), depth, x.channels).index_put((cells[keys], z), x.features)
    indices = torch.stack([places // (height * width), places // width % height, places % width], dim=1).int()
    return SparseTensor(layers.mT.flatten(1), indices.contiguous(), (height, width), x.batch)
