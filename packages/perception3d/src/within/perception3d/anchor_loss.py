"""Losses and decoding of heads with anchors; Yan, Mao, Li: SECOND, Sensors 2018.

    scores      focal loss, alpha 0.25, gamma 2 (Lin et al., ICCV 2017)
    boxes       smooth L1 with beta 1/9; of the yaw the sine of the difference
    directions  cross entropy over the two halves of the circle
all divided by the number of anchors that stand for an object
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from within.perception3d.anchor_targets import UNDECIDED, anchor_targets, decode
from within.perception3d.center_decoding import Decoding, suppressed
from within.perception3d.center_loss import NOTHING
from within.perception3d.detections import Detections
from within.perception3d.models.anchor_head import DIRECTION_OFFSET, AnchorClass
from within.perception3d.models.bev_map import dense

ALPHA, GAMMA, BETA = 0.25, 2.0, 1 / 9
ANCHOR_DECODING = Decoding(most=4096, overlap=0.01)


@dataclass(frozen=True)
class AnchorLossWeights:
    """Weights of the losses.

    Attributes:
        scores, boxes, directions: of each.
    """

    scores: float = 1.0
    boxes: float = 2.0
    directions: float = 0.2


def anchor_loss(
    outputs: Sequence[dict[str, Any]],
    boxes: Float[Tensor, "batch objects values"],
    labels: Int64[Tensor, "batch objects"],
    anchors: Float[Tensor, "height width classes angles 7"],
    classes: Sequence[AnchorClass],
    weights: AnchorLossWeights = AnchorLossWeights(),
    *,
    direction_offset: float = DIRECTION_OFFSET,
) -> dict[str, Tensor]:
    """Returns the losses by name, per anchor that stands for an object, as a mean over the clouds.

    Arguments:
        outputs: of an `AnchorHead`, in any form.
        boxes, labels: of the objects, padded with labels of -1.
        anchors, classes, direction_offset: of the head.
        weights: of the losses.
    """
    scores, residuals, directions = rows(outputs[0], len(classes))
    totals = dict.fromkeys(("heatmap", "boxes", "directions"), scores.new_zeros(()))
    for sample in range(len(scores)):
        target = anchor_targets(anchors, boxes[sample], labels[sample], classes, direction_offset=direction_offset)
        stands = target.labels >= 0
        count = stands.sum().clamp(min=1) * len(scores)
        decided = target.labels != UNDECIDED
        wanted = F.one_hot(target.labels.clamp(min=0), len(classes)) * stands[:, None]
        focal = focal_terms(scores[sample], wanted.to(scores.dtype)) * decided[:, None]
        totals["heatmap"] = totals["heatmap"] + weights.scores * focal.sum() / count
        found, goal = residuals[sample][stands], target.residuals[stands]
        angle = torch.sin(found[:, 6:] - goal[:, 6:])
        difference = torch.cat([found[:, :6] - goal[:, :6], angle], dim=1)
        smooth = F.smooth_l1_loss(difference, torch.zeros_like(difference), beta=BETA, reduction="sum")
        totals["boxes"] = totals["boxes"] + weights.boxes * smooth / count
        halves = F.cross_entropy(directions[sample][stands], target.directions[stands], reduction="sum")
        totals["directions"] = totals["directions"] + weights.directions * halves / count
    return totals


def focal_terms(scores: Tensor, wanted: Tensor) -> Tensor:
    """Returns the focal loss of each score before the sigmoid."""
    chance = torch.sigmoid(scores)
    alpha = wanted * ALPHA + (1 - wanted) * (1 - ALPHA)
    away = wanted * (1 - chance) + (1 - wanted) * chance
    return alpha * away**GAMMA * F.binary_cross_entropy_with_logits(scores, wanted, reduction="none")


def rows(
    maps: dict[str, Any], classes: int
) -> tuple[Float[Tensor, "batch anchors classes"], Float[Tensor, "batch anchors 7"], Float[Tensor, "batch anchors 2"]]:
    """Returns scores, residuals and directions of every anchor, in the order of `anchors`."""
    found = []
    for name, values in (("heatmap", classes), ("boxes", 7), ("directions", 2)):
        whole = dense(maps[name], NOTHING if name == "heatmap" else 0.0)
        found.append(whole.permute(0, 2, 3, 1).reshape(len(whole), -1, values))
    return found[0], found[1], found[2]


def decode_anchors(
    outputs: Sequence[dict[str, Any]],
    anchors: Float[Tensor, "height width classes angles 7"],
    classes: int,
    decoding: Decoding = ANCHOR_DECODING,
    *,
    direction_offset: float = DIRECTION_OFFSET,
) -> list[Detections]:
    """Returns the detections of each cloud of a batch.

    Arguments:
        outputs: of an `AnchorHead`, in any form.
        anchors: of the head.
        classes: number of them.
        decoding: how; boxes of all classes suppress each other unless it says `by_class`.
        direction_offset: of the head.
    """
    scores, residuals, directions = rows(outputs[0], classes)
    flat = anchors.flatten(0, 3)
    found = []
    for sample in range(len(scores)):
        chances = torch.sigmoid(scores[sample])
        best, kinds = chances.max(1)
        chosen = best.topk(min(decoding.most, len(best))).indices
        boxes = decode(residuals[sample][chosen], flat[chosen])
        halves = directions[sample][chosen].argmax(1)
        turned = (boxes[:, 6] - direction_offset) % math.pi
        boxes[:, 6] = turned + direction_offset + math.pi * halves
        table = [each.detach().cpu().numpy() for each in (boxes, best[chosen], kinds[chosen])]
        if decoding.by_class:
            found.append(suppressed_by_class(table[0], chances[chosen].detach().cpu().numpy(), decoding))
        else:
            found.append(Detections(*suppressed((table[0], table[1], table[2]), decoding)))
    return found


def suppressed_by_class(boxes: np.ndarray, scores: np.ndarray, decoding: Decoding) -> Detections:
    """Returns what stays of each class by itself; a box may stay for several.

    Arguments:
        boxes: (boxes, values).
        scores: (boxes, classes).
        decoding: how; `after` counts the boxes of all classes together.
    """
    tables = [
        suppressed((boxes, scores[:, label], np.full(len(boxes), label)), decoding) for label in range(scores.shape[1])
    ]
    joined = [np.concatenate([table[number] for table in tables]) for number in range(3)]
    order = np.argsort(-joined[1], kind="stable")[: decoding.after]
    return Detections(*(each[order] for each in joined))
