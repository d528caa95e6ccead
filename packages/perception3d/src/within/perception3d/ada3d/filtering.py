"""Which places of a map stay: those of highest importance, where it is corrected by how crowded their surroundings are.

Ada3D, section 3.3. With importance h, occupancy m and its local mean D:

    score = m h / (D + 1e-4)^alpha

Near the sensor D is high and scores are lowered, so that far and thin objects stay. Empty places are never ranked.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from within.core.errors import WithinError
from within.perception3d.models.bev_map import occupied
from within.perception3d.sparse import SparseTensor

EPSILON = 1e-4


@dataclass(frozen=True)
class Filter:
    """How places are chosen.

    Attributes:
        keep: share of the occupied places that stay.
        density: correct by the local density.
        window: over how many pixels along each axis the density is averaged.
        exponent: alpha.
    """

    keep: float
    density: bool = True
    window: int = 8
    exponent: float = 0.15

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise WithinError(f"A share of {self.keep} of the places cannot stay", todo="give more than 0, at most 1")


def scores(pixels: SparseTensor, how: Filter) -> Float[Tensor, " pixels"]:
    """Returns the score of every occupied pixel.

    Arguments:
        pixels: with importance by class, of which the mean counts.
        how: places are chosen.
    """
    found = pixels.features.detach().mean(1)
    if not how.density:
        return found
    there = occupied(pixels)[:, None].float()
    density = F.avg_pool2d(there, how.window, how.window, ceil_mode=True)[:, 0]
    factor = (density + EPSILON) ** -how.exponent
    batch, row, column = pixels.indices.long().unbind(1)
    return found * factor[batch, row // how.window, column // how.window]


def kept(pixels: SparseTensor, how: Filter) -> Int64[Tensor, " stay"]:
    """Returns the rows of the pixels that stay: in each map the share `keep` of highest score, at least one.

    Arguments:
        pixels: see `scores`; the maps of a batch lie one after the other.
        how: places are chosen.
    """
    if how.keep == 1:
        return torch.arange(len(pixels), device=pixels.features.device)
    found, first = [], 0
    for each in scores(pixels, how).split(torch.bincount(pixels.indices[:, 0], minlength=pixels.batch).tolist()):
        count = min(max(int(how.keep * len(each)), 1), len(each))
        found.append(each.topk(count, sorted=False).indices.sort().values + first)
        first += len(each)
    return torch.cat(found)
