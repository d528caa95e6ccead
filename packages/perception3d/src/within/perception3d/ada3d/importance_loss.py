"""What the importance predictor is trained towards: heat maps of all objects, at the stride of its own map.

Ada3D, section 3.2: Gaussians as of `heatmap`, of radius 5 at least, summed over classes; mean squared error at every
place where importance is predicted, over all pixels or over the occupied ones, summed over the places.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from within.perception3d.ada3d.thinning import Choice
from within.perception3d.center_targets import center_targets
from within.perception3d.heatmap import MapGrid

LEAST_RADIUS = 5


def importance_target(
    boxes: Float[Tensor, "batch objects values"], labels: Int64[Tensor, "batch objects"], classes: int, grid: MapGrid
) -> Float[Tensor, "batch 1 height width"]:
    """Returns the heat map of all classes together.

    Arguments:
        boxes, labels: of the objects; see `center_targets`.
        classes: number of them.
        grid: of the predictor's map.
    """
    targets = center_targets(boxes, labels, list(range(classes)), grid, least_radius=LEAST_RADIUS)
    return targets.heatmap.sum(1, keepdim=True)


def importance_loss(
    choices: Sequence[Choice], target: Float[Tensor, "batch 1 height width"], *, occupied_only: bool = False
) -> Tensor:
    """Returns the sum of the mean squared errors at all places.

    Arguments:
        choices: at the places, with nothing dropped.
        target: see `importance_target`.
        occupied_only: leave empty pixels out.
    """
    losses = []
    for choice in choices:
        error = (choice.importance - target).square()
        if occupied_only:
            seen = choice.before[:, None]
            losses.append((error * seen).sum() / (seen.sum() * error.shape[1]).clamp(min=1))
        else:
            losses.append(error.mean())
    return torch.stack(losses).sum()
