"""Which anchor stands for which object, and the residuals between them; Yan, Mao, Li: SECOND, Sensors 2018.

Overlaps are those of the boxes turned to the nearest axis. An anchor whose overlap with some object of its class
reaches the class's threshold stands for it, as does the best anchor of every object; anchors below the lower threshold
are background; those between count neither way.

    x, y   (g - a) / diagonal of the anchor       z   (g - a) / height
    sizes  log(g / a)                             yaw g - a
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from within.perception3d.models.anchor_head import DIRECTION_OFFSET, AnchorClass

BACKGROUND, UNDECIDED = -1, -2


@dataclass(frozen=True, eq=False)
class AnchorTargets:
    """Targets of the anchors of one cloud.

    Attributes:
        labels: class of each anchor, -1 for background, -2 for undecided.
        residuals: of those that stand for an object.
        directions: which half of the circle the object looks to.
    """

    labels: Int64[Tensor, " anchors"]
    residuals: Float[Tensor, "anchors 7"]
    directions: Int64[Tensor, " anchors"]


def anchor_targets(
    anchors: Float[Tensor, "height width classes angles 7"],
    boxes: Float[Tensor, "objects values"],
    labels: Int64[Tensor, " objects"],
    classes: Sequence[AnchorClass],
    *,
    direction_offset: float = DIRECTION_OFFSET,
) -> AnchorTargets:
    """Returns the targets of one cloud.

    Arguments:
        anchors: of the head.
        boxes, labels: of the objects; those with a label of -1 are filling.
        classes, direction_offset: of the head.
    """
    shape = anchors.shape[:-1]
    found = torch.full(shape, BACKGROUND, device=anchors.device)
    residuals = anchors.new_zeros(anchors.shape)
    directions = torch.zeros(shape, dtype=torch.int64, device=anchors.device)
    for number, kind in enumerate(classes):
        own = boxes[labels == number][:, :7].to(anchors.dtype)
        if not len(own):
            continue
        place = anchors[:, :, number].reshape(-1, 7)
        overlap = nearest_overlaps(place, own)
        best, which = overlap.max(1)
        most = overlap.max(0).values
        forced = ((overlap == most) & (most > 0)).nonzero()
        stands = best >= kind.matched
        stands[forced[:, 0]] = True
        which[forced[:, 0]] = forced[:, 1]
        here = torch.full_like(which, BACKGROUND)
        here[(best >= kind.unmatched) & ~stands] = UNDECIDED
        here[stands] = number
        objects = own[which[stands]]
        values, halves = torch.zeros_like(place), torch.zeros_like(which)
        values[stands] = encode(objects, place[stands])
        halves[stands] = ((objects[:, 6] - direction_offset) % (2 * math.pi) >= math.pi).long()
        part = (shape[0], shape[1], shape[3])
        found[:, :, number], directions[:, :, number] = here.view(part), halves.view(part)
        residuals[:, :, number] = values.view(*part, 7)
    return AnchorTargets(found.flatten(), residuals.flatten(0, 3), directions.flatten())


def encode(boxes: Float[Tensor, "boxes 7"], anchors: Float[Tensor, "boxes 7"]) -> Float[Tensor, "boxes 7"]:
    """Returns the residuals of boxes from anchors."""
    diagonal = anchors[:, 3:5].square().sum(1, keepdim=True).sqrt()
    ground = (boxes[:, :2] - anchors[:, :2]) / diagonal
    height = (boxes[:, 2:3] - anchors[:, 2:3]) / anchors[:, 5:6]
    sizes = torch.log(boxes[:, 3:6].clamp(min=1e-5) / anchors[:, 3:6])
    return torch.cat([ground, height, sizes, boxes[:, 6:7] - anchors[:, 6:7]], dim=1)


def decode(residuals: Float[Tensor, "boxes 7"], anchors: Float[Tensor, "boxes 7"]) -> Float[Tensor, "boxes 7"]:
    """Returns boxes from residuals; the inverse of `encode`."""
    diagonal = anchors[:, 3:5].square().sum(1, keepdim=True).sqrt()
    ground = residuals[:, :2] * diagonal + anchors[:, :2]
    height = residuals[:, 2:3] * anchors[:, 5:6] + anchors[:, 2:3]
    sizes = residuals[:, 3:6].exp() * anchors[:, 3:6]
    return torch.cat([ground, height, sizes, residuals[:, 6:7] + anchors[:, 6:7]], dim=1)


def nearest_overlaps(first: Float[Tensor, "n 7"], second: Float[Tensor, "m 7"]) -> Float[Tensor, "n m"]:
    """Returns intersection over union seen from above, every box turned to the nearest axis."""
    one, two = _upright(first), _upright(second)
    low, high = torch.maximum(one[:, None, :2], two[None, :, :2]), torch.minimum(one[:, None, 2:], two[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    areas = [(each[:, 2:] - each[:, :2]).prod(1) for each in (one, two)]
    return shared / (areas[0][:, None] + areas[1][None] - shared).clamp(min=1e-6)


def _upright(boxes: Tensor) -> Tensor:
    """Returns low x, low y, high x and high y."""
    turned = (boxes[:, 6] / math.pi - torch.floor(boxes[:, 6] / math.pi + 0.5)).abs() * math.pi
    along, across = boxes[:, 3], boxes[:, 4]
    swapped = turned >= math.pi / 4
    extent = torch.stack([torch.where(swapped, across, along), torch.where(swapped, along, across)], dim=1) / 2
    return torch.cat([boxes[:, :2] - extent, boxes[:, :2] + extent], dim=1)
