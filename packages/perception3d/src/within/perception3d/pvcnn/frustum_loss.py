"""What frustum networks minimise: the mask, two centres, heading and size by bin and residual, and the box's corners.

    L = CE(mask) + H_2(|c - c*|) + H_1(|t - c*|) + CE(heading) + CE(size)
        + 20 H_1(heading residual) + 20 H_1(|size residual|) + 10 H_1(min(|corners - corners*|, flipped))

Qi, Liu, Wu, Su, Guibas: Frustum PointNets, CVPR 2018, section 4.4; weights as PVCNN was trained with. H_d is the Huber
loss, quadratic up to d; t is the coarse centre; a box turned by half a turn has the same corners in another order.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from within.perception3d.pvcnn.frustum import HEADINGS, FrustumOutput, heading_of

HEADING_WEIGHT, SIZE_WEIGHT, CORNER_WEIGHT = 20.0, 20.0, 10.0
CENTRE_REACH = 2.0  # metres up to which the loss of the final centre is quadratic


class FrustumTarget(NamedTuple):
    """What is true of each frustum.

    Attributes:
        mask: 1 for points of the object, (batch, points).
        centre: of the box, (batch, 3), in metres.
        heading: about the camera's y axis, (batch,), in radians.
        size: length, width and height, (batch, 3), in metres.
        template: number of the size template of the object's class, (batch,).
    """

    mask: Tensor
    centre: Tensor
    heading: Tensor
    size: Tensor
    template: Tensor


def frustum_losses(
    output: FrustumOutput, target: FrustumTarget, templates: Float[Tensor, "sizes 3"]
) -> dict[str, Tensor]:
    """Returns the weighted terms of the loss, means over the batch; their sum is what is minimised.

    Arguments:
        output: of a `FrustumNetwork`.
        target: see there.
        templates: length, width and height of each, `FrustumNetwork.sizes`.
    """
    rows = torch.arange(len(target.centre), device=target.centre.device)
    bins, residual = heading_bins(target.heading)
    template = templates[target.template]
    heading = output.heading_residuals[rows, bins]
    size = output.size_residuals[rows, target.template]
    found = box_corners(output.centre, template * (1 + size), heading_of(bins, heading))
    true, turned = (box_corners(target.centre, target.size, target.heading + turn) for turn in (0.0, math.pi))
    distance = torch.minimum((found - true).norm(dim=2), (found - turned).norm(dim=2))
    return {
        "loss_mask": F.cross_entropy(output.mask, target.mask),
        "loss_centre": huber(_length(output.centre - target.centre), CENTRE_REACH),
        "loss_coarse_centre": huber(_length(output.coarse_centre - target.centre)),
        "loss_heading": F.cross_entropy(output.heading_scores, bins),
        "loss_size": F.cross_entropy(output.size_scores, target.template),
        "loss_heading_residual": HEADING_WEIGHT * huber(heading - residual),
        "loss_size_residual": SIZE_WEIGHT * huber(_length(size - (target.size / template - 1))),
        "loss_corners": CORNER_WEIGHT * huber(distance),
    }


def frustum_loss(output: FrustumOutput, target: FrustumTarget, templates: Float[Tensor, "sizes 3"]) -> Tensor:
    """Returns the sum of `frustum_losses`."""
    return torch.stack(list(frustum_losses(output, target, templates).values())).sum()


def huber(error: Tensor, reach: float = 1.0) -> Tensor:
    """Returns the mean of the Huber loss, quadratic up to `reach`."""
    return F.huber_loss(error, torch.zeros_like(error), delta=reach)


def heading_bins(heading: Float[Tensor, " batch"]) -> tuple[Tensor, Tensor]:
    """Returns the bin of each heading, bin k being centred at 2 pi k / `HEADINGS`, and what remains in half bins."""
    width = 2 * math.pi / HEADINGS
    shifted = torch.remainder(heading + width / 2, 2 * math.pi)
    bins = (shifted / width).long().clamp(max=HEADINGS - 1)
    return bins, (shifted - (bins + 0.5) * width) / (width / 2)


def box_corners(
    centre: Float[Tensor, "batch 3"], size: Float[Tensor, "batch 3"], heading: Float[Tensor, " batch"]
) -> Float[Tensor, "batch 8 3"]:
    """Returns the corners of boxes in the camera's frame: the four with larger y (below), then the four with smaller.

    Arguments:
        centre: middle of each box.
        size: length, width and height; along x, z and y at heading 0.
        heading: about y, from z towards x.
    """
    sides = centre.new_tensor(
        [[x, y, z] for y in (0.5, -0.5) for x, z in ((0.5, 0.5), (0.5, -0.5), (-0.5, -0.5), (-0.5, 0.5))]
    )
    x, y, z = (sides * size[:, None, [0, 2, 1]]).unbind(2)
    cos, sin = heading.cos()[:, None], heading.sin()[:, None]
    return torch.stack([cos * x + sin * z, y, cos * z - sin * x], dim=2) + centre[:, None]


def _length(difference: Tensor) -> Tensor:
    return difference.norm(dim=-1)
