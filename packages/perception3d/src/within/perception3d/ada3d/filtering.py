"""Which places of a map stay: those of highest importance, where it is corrected by how crowded their surroundings are.

Ada3D, section 3.3. With importance h, occupancy m and its local mean D:

    score = m h / (D + 1e-4)^alpha

Near the sensor D is high and scores are lowered, so that far and thin objects stay. Empty places are never ranked.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from within.core.errors import WithinError

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


def scores(
    importance: Float[Tensor, "batch height width"], mask: Bool[Tensor, "batch height width"], how: Filter
) -> Float[Tensor, "batch height width"]:
    """Returns the score of every place; zero where nothing is."""
    found = importance * mask
    if not how.density:
        return found
    density = F.avg_pool2d(mask[:, None].float(), how.window, how.window, ceil_mode=True)
    height, width = mask.shape[1:]
    spread = density.repeat_interleave(how.window, 2).repeat_interleave(how.window, 3)[:, 0, :height, :width]
    return found / (spread + EPSILON) ** how.exponent


def kept(
    importance: Float[Tensor, "batch height width"], mask: Bool[Tensor, "batch height width"], how: Filter
) -> Bool[Tensor, "batch height width"]:
    """Returns the occupied places that stay: in each map the share `keep` of highest score, at least one."""
    if how.keep == 1:
        return mask
    ranked = scores(importance, mask, how).masked_fill(~mask, -torch.inf).flatten(1)
    found = torch.zeros_like(mask).flatten(1)
    for row, there in enumerate(mask.flatten(1).sum(1).tolist()):
        count = min(max(int(how.keep * there), 1), there)
        found[row, ranked[row].topk(count).indices] = True
    return found.view_as(mask)
