"""Boxes found for given objects, one each: the mean overlap in space, and the share that overlaps enough, by class.

As frustum networks are compared while they train: Qi et al., Frustum PointNets, CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.perception3d.rotated_overlap import box_overlaps

LEAST: Mapping[str, float] = {"Car": 0.7}
OTHERWISE = 0.5


@dataclass(frozen=True)
class BoxAccuracy:
    """As fractions of 1.

    Attributes:
        mean_overlap: intersection over union in space, mean over all boxes.
        accuracy: share of boxes that overlap at least as `LEAST` says.
        classes: that share for each class that has objects.
        class_mean: mean of these.
        boxes: number of all.
    """

    mean_overlap: float
    accuracy: float
    classes: Mapping[str, float]
    class_mean: float
    boxes: int

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            "mean_overlap": self.mean_overlap,
            "accuracy": self.accuracy,
            "class_mean_accuracy": self.class_mean,
            "classes": dict(self.classes),
            "boxes": self.boxes,
        }


def box_accuracy(
    found: Float64[np.ndarray, "boxes 7"], true: Float64[np.ndarray, "boxes 7"], classes: Sequence[str]
) -> BoxAccuracy:
    """Compares boxes one by one.

    Arguments:
        found, true: middle (x, y, z), length, width, height and heading about y, in the camera's frame.
        classes: of each.

    Raises:
        WithinError: when their numbers differ, or there are none.
    """
    if not len(true) or not len(found) == len(true) == len(classes):
        raise WithinError(f"{len(found)} boxes, {len(true)} objects and {len(classes)} classes cannot be compared")
    overlaps = np.array([_overlap(a, b) for a, b in zip(found, true, strict=True)])
    enough = overlaps >= np.array([LEAST.get(name, OTHERWISE) for name in classes])
    names = np.array(classes)
    shares = {str(name): float(enough[names == name].mean()) for name in sorted(set(classes))}
    return BoxAccuracy(
        float(overlaps.mean()), float(enough.mean()), shares, float(np.mean(list(shares.values()))), len(true)
    )


def _overlap(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Returns intersection over union; from above, x to the right and z forward, headings turn clockwise."""
    rectangles = [np.array([[box[0], box[2], box[3], box[4], -box[6]]]) for box in (first, second)]
    ends = [np.array([box[1] + side * box[5] / 2]) for box in (first, second) for side in (-1, 1)]
    return float(box_overlaps(rectangles[0], rectangles[1], *ends)[0, 0])
