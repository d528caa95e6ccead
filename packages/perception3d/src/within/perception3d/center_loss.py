"""CenterPoint's losses: a focal loss on the heat maps and L1 on the boxes at the centres.

Zhou, Wang, Krähenbühl: Objects as Points, 2019, equation 1 (alpha 2, beta 4); Yin et al., CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from within.perception3d.center_targets import CenterTargets, center_targets
from within.perception3d.heatmap import MapGrid
from within.perception3d.models.bev_map import dense, occupied
from within.perception3d.models.center_head import sigmoid_clamped

ORDER = ("center", "center_z", "dim", "rot", "vel")
NOTHING = -20.0  # score of a place that is not occupied, before the sigmoid


@dataclass(frozen=True)
class CenterLossWeights:
    """Weights of the losses.

    Attributes:
        heatmap, boxes: of the two losses; nuScenes takes 0.25 for boxes.
        velocity: of the velocities within that of boxes.
        least_radius: of the Gaussians, in pixels.
        nearest: look for an object at the nearest occupied pixel (see `center_targets`).
    """

    heatmap: float = 1.0
    boxes: float = 2.0
    velocity: float = 0.2
    least_radius: int = 2
    nearest: bool = False


def center_loss(
    outputs: Sequence[dict[str, Any]],
    boxes: Float[Tensor, "batch objects values"],
    labels: Int64[Tensor, "batch objects"],
    tasks: Sequence[Sequence[int]],
    grid: MapGrid,
    weights: CenterLossWeights = CenterLossWeights(),
) -> dict[str, Tensor]:
    """Returns the losses by name, summed over tasks.

    Arguments:
        outputs: of a `CenterHead`, in any form.
        boxes, labels: of the objects; see `center_targets`.
        tasks: classes of each task.
        grid: of the head's maps.
        weights: of the losses.
    """
    first = outputs[0]["heatmap"]
    allowed = occupied(first) if weights.nearest and not isinstance(first, Tensor) else None
    total = {"heatmap": 0.0, "boxes": 0.0}
    for maps, classes in zip(outputs, tasks, strict=True):
        targets = center_targets(boxes, labels, classes, grid, least_radius=weights.least_radius, occupied=allowed)
        scores = sigmoid_clamped(dense(maps["heatmap"], NOTHING))
        total["heatmap"] = total["heatmap"] + weights.heatmap * focal_loss(scores, targets.heatmap)
        values = torch.cat([dense(maps[name]) for name in ORDER if name in maps], dim=1)
        total["boxes"] = total["boxes"] + weights.boxes * box_loss(values, targets, weights.velocity)
    return total  # type: ignore[return-value]


def focal_loss(
    scores: Float[Tensor, "batch classes height width"], target: Float[Tensor, "batch classes height width"]
) -> Tensor:
    """Returns the focal loss per object.

    Arguments:
        scores: between 0 and 1, exclusive.
        target: 1 at centres, less around them.
    """
    centres = target == 1
    found = torch.log(1 - scores) * scores.square() * (1 - target).pow(4)  # zero at centres
    at_centres = torch.log(scores[centres]) * (1 - scores[centres]).square()
    return -(found.sum() + at_centres.sum()) / centres.sum().clamp(min=1)


def box_loss(values: Float[Tensor, "batch values height width"], targets: CenterTargets, velocity: float) -> Tensor:
    """Returns the L1 loss per object at the centres, with a weight for the velocities; NaN targets do not count."""
    found = values.flatten(2).gather(2, targets.pixels[:, None].expand(-1, values.shape[1], -1)).mT
    counts: Bool[Tensor, "batch objects values"] = targets.present[:, :, None] & ~targets.boxes.isnan()
    difference = (found - targets.boxes.nan_to_num()).abs() * counts
    factors = difference.new_ones(difference.shape[2])
    factors[8:] = velocity
    return (difference * factors).sum() / targets.present.sum().clamp(min=1)
