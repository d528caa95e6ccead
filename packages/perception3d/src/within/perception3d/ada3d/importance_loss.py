"""What the importance predictor is trained towards: heat maps of all objects, at the stride of its own map.

Ada3D, section 3.2: Gaussians as of `heatmap`, of radius 5 at least, summed over classes; mean squared error at every
place where importance is predicted, over all pixels or over the occupied ones, summed over the places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from within.perception3d.ada3d.diagnostics import pixels_in_boxes
from within.perception3d.ada3d.thinning import Choice
from within.perception3d.center_targets import center_targets
from within.perception3d.heatmap import MapGrid


@dataclass(frozen=True)
class ImportanceTarget:
    """What counts as important.

    Attributes:
        least_radius: of the Gaussians around the centres, in pixels.
        boxes: every pixel within a box is fully important too, so that the ends of long objects are not dropped
            before the background; the published target has the Gaussians alone.
    """

    least_radius: int = 5
    boxes: bool = False


PUBLISHED = ImportanceTarget()


def importance_target(
    boxes: Float[Tensor, "batch objects values"],
    labels: Int64[Tensor, "batch objects"],
    classes: int,
    grid: MapGrid,
    how: ImportanceTarget = PUBLISHED,
) -> Float[Tensor, "batch 1 height width"]:
    """Returns the heat map of all classes together.

    Arguments:
        boxes, labels: of the objects; see `center_targets`.
        classes: number of them.
        grid: of the predictor's map.
        how: it is drawn.
    """
    targets = center_targets(boxes, labels, list(range(classes)), grid, least_radius=how.least_radius)
    found = targets.heatmap.sum(1, keepdim=True)
    if how.boxes:
        for sample, (each, names) in enumerate(zip(boxes.cpu().numpy(), labels.cpu().numpy(), strict=True)):
            found[sample, 0][torch.from_numpy(pixels_in_boxes(each[names >= 0], grid)).to(found.device)] = 1
    return found


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
