"""From voxels to a map seen from above: the layers along z become channels, channel by channel."""

from __future__ import annotations

from typing import Literal

import torch

from within.perception3d.models.bev_map import BevMap, MaskedMap
from within.perception3d.sparse import SparseTensor, cells_of

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
    rows, places = cells_of(x.indices[:, [0, 2, 3]], x.batch, (height, width))
    layers = x.features.new_zeros(len(places), depth, x.channels).index_put((rows, x.indices[:, 1].long()), x.features)
    return SparseTensor(layers.mT.flatten(1), places, (height, width), x.batch)
