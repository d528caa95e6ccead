"""Part segmentation: the mean intersection over union of the parts of each object's category.

    IoU(object) = mean over the parts p of its category of |p in labels and predictions| / |p in either|

A part in neither counts 1. The mean over all objects is what "mean IoU" of ShapeNet means; that over categories weighs
rare ones alike. Yi et al., SIGGRAPH Asia 2016; Qi et al., PointNet, CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Integer

from within.core.errors import WithinError
from within.perception3d.data.shapenet_part import PARTS


def shape_iou(prediction: Integer[np.ndarray, " points"], label: Integer[np.ndarray, " points"], parts: range) -> float:
    """Returns the mean over the parts of one object.

    Arguments:
        prediction, label: part of each point.
        parts: of the object's category.

    Raises:
        WithinError: when the lengths differ, or there are no points.
    """
    if prediction.shape != label.shape or not len(label):
        raise WithinError(f"{len(prediction)} predictions and {len(label)} labels of an object")
    found = []
    for part in parts:
        guessed, true = prediction == part, label == part
        union = int((guessed | true).sum())
        found.append(int((guessed & true).sum()) / union if union else 1.0)
    return float(np.mean(found))


@dataclass(frozen=True)
class PartScores:
    """Means over objects, as fractions of 1.

    Attributes:
        instance_mean: over all objects.
        class_mean: over the categories that have objects.
        categories: of each of these.
        objects: number of all.
    """

    instance_mean: float
    class_mean: float
    categories: Mapping[str, float]
    objects: int

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            "mean_iou": self.instance_mean,
            "class_mean_iou": self.class_mean,
            "categories": dict(self.categories),
            "objects": self.objects,
        }


class PartIoU:
    """Collects objects.

    Arguments:
        parts: of each category.
    """

    def __init__(self, parts: Mapping[str, range] = PARTS) -> None:
        self.parts = parts
        self.found: dict[str, list[float]] = {}

    def update(
        self, prediction: Integer[np.ndarray, " points"], label: Integer[np.ndarray, " points"], category: str
    ) -> float:
        """Adds an object and returns its mean over parts.

        Raises:
            WithinError: for an unknown category, and as `shape_iou` does.
        """
        if category not in self.parts:
            raise WithinError(f"There is no category {category!r}", todo=f"choose among {', '.join(self.parts)}")
        iou = shape_iou(prediction, label, self.parts[category])
        self.found.setdefault(category, []).append(iou)
        return iou

    def scores(self) -> PartScores:
        """Returns the means.

        Raises:
            WithinError: when there were no objects.
        """
        if not self.found:
            raise WithinError("No object was counted", todo="evaluate at least one")
        categories = {name: float(np.mean(self.found[name])) for name in self.parts if name in self.found}
        every = [iou for values in self.found.values() for iou in values]
        return PartScores(float(np.mean(every)), float(np.mean(list(categories.values()))), categories, len(every))
