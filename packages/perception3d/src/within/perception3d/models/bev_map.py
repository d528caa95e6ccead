"""Maps seen from above in three forms: dense, dense with a mask, and sparse.

The occupied places Omega of a map are where something was seen. A plain tensor knows of none and every pixel counts; a
`MaskedMap` is computed densely and is zero outside of Omega; a `SparseTensor` holds the rows of Omega alone. The layers
of `bev_layers` take all three, and the last two give equal numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from within.perception3d.sparse import SparseTensor, from_dense


@dataclass(frozen=True, eq=False)
class MaskedMap:
    """A dense map that is zero outside of its occupied places.

    Attributes:
        features: of every pixel.
        mask: which are occupied.
    """

    features: Float[Tensor, "batch channels height width"]
    mask: Bool[Tensor, "batch height width"]


BevMap = Tensor | MaskedMap | SparseTensor


def masked(features: Float[Tensor, "batch channels height width"], mask: Bool[Tensor, "batch height width"]) -> BevMap:
    """Returns a map with everything outside of a mask set to zero."""
    return MaskedMap(features * mask[:, None], mask)


def occupied(x: BevMap) -> Bool[Tensor, "batch height width"]:
    """Returns which places of a map are occupied; of a plain tensor, where any channel is not zero."""
    if isinstance(x, MaskedMap):
        return x.mask
    if isinstance(x, SparseTensor):
        found = torch.zeros(x.batch, *x.shape, dtype=torch.bool, device=x.features.device)
        found[x.indices.long().unbind(1)] = True
        return found
    return (x != 0).any(1)


def dense(x: BevMap, fill: float = 0.0) -> Float[Tensor, "batch channels height width"]:
    """Returns all pixels of a map, with a number at places that are not occupied."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, MaskedMap):
        return x.features if fill == 0 else torch.where(x.mask[:, None], x.features, fill)
    if fill == 0:
        return x.dense()
    found = x.features.new_full((x.batch, *x.shape, x.channels), fill)
    found[x.indices.long().unbind(1)] = x.features
    return found.movedim(-1, 1)


def sparse(x: BevMap) -> SparseTensor:
    """Returns the rows of a map's occupied places, in the order of the grid."""
    if isinstance(x, SparseTensor):
        return x
    return from_dense(x.features, x.mask) if isinstance(x, MaskedMap) else from_dense(x)


def concatenate(maps: list[BevMap]) -> BevMap:
    """Returns maps of one size side by side along the channels; occupied is what any of them occupies."""
    if len(maps) == 1:
        return maps[0]
    tensors = [each for each in maps if isinstance(each, Tensor)]
    if len(tensors) == len(maps):
        return torch.cat(tensors, dim=1)
    together = torch.cat([dense(each) for each in maps], dim=1)
    mask = torch.stack([occupied(each) for each in maps]).any(0)
    return from_dense(together, mask) if isinstance(maps[0], SparseTensor) else MaskedMap(together, mask)


def split(x: BevMap, widths: Sequence[int]) -> list[BevMap]:
    """Returns maps of so many channels each, which lay side by side; the other way round of `concatenate`."""
    if isinstance(x, Tensor):
        return list(x.split(list(widths), dim=1))
    if isinstance(x, MaskedMap):
        return [MaskedMap(part, x.mask) for part in x.features.split(list(widths), dim=1)]
    return [x.with_features(part.contiguous()) for part in x.features.split(list(widths), dim=1)]
