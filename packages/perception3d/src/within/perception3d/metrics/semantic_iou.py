"""Semantic segmentation of points: intersection over union of each class, and accuracy, from one matrix over all rooms.

    IoU_c = TP_c / (TP_c + FP_c + FN_c),   OA = sum TP_c / points

As S3DIS is evaluated: Qi et al., PointNet, CVPR 2017; Armeni et al., CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Integer
from numpy.typing import NDArray

from within.core.errors import WithinError


@dataclass(frozen=True, eq=False)
class SemanticScores:
    """What a confusion matrix says, as fractions of 1.

    Attributes:
        class_iou: NaN for a class that is neither labelled nor predicted.
        mean_iou: mean over the other classes.
        overall_accuracy: share of points that are right.
        mean_class_accuracy: mean share of the points of each labelled class that are right.
        points: number of them.
    """

    class_iou: Float64[np.ndarray, " classes"]
    mean_iou: float
    overall_accuracy: float
    mean_class_accuracy: float
    points: int

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """Returns plain values, None in place of NaN."""
        named = {name: None if np.isnan(iou) else float(iou) for name, iou in zip(classes, self.class_iou, strict=True)}
        return {
            "mean_iou": self.mean_iou,
            "overall_accuracy": self.overall_accuracy,
            "mean_class_accuracy": self.mean_class_accuracy,
            "class_iou": named,
            "points": self.points,
        }


class PointConfusion:
    """Counts points by label (row) and prediction (column); the last column is for points without a prediction.

    Arguments:
        classes: their number.

    Attributes:
        counts: (classes, classes + 1).
    """

    def __init__(self, classes: int) -> None:
        self.counts: Int64[np.ndarray, "labels predictions"] = np.zeros((classes, classes + 1), np.int64)

    def update(self, prediction: Integer[np.ndarray, " points"], label: Integer[np.ndarray, " points"]) -> None:
        """Adds points.

        Arguments:
            prediction: number of the class, or -1 for none, which is a miss.
            label: number of the class.

        Raises:
            WithinError: when the lengths differ, or a number is of no class.
        """
        classes = len(self.counts)
        if prediction.shape != label.shape:
            raise WithinError(f"{len(prediction)} predictions and {len(label)} labels")
        for name, values, least in (("prediction", prediction, -1), ("label", label, 0)):
            if len(values) and (values.min() < least or values.max() >= classes):
                raise WithinError(f"A {name} is of no class of 0 to {classes - 1}")
        guess = np.where(prediction < 0, classes, prediction)
        pairs = label.astype(np.int64) * (classes + 1) + guess
        self.counts += np.bincount(pairs, minlength=self.counts.size).reshape(self.counts.shape)

    def scores(self) -> SemanticScores:
        """Returns the metrics.

        Raises:
            WithinError: when nothing was counted.
        """
        total = int(self.counts.sum())
        if not total:
            raise WithinError("No point was counted", todo="evaluate at least one room")
        right = np.diagonal(self.counts).astype(np.float64)
        labelled, predicted = self.counts.sum(1), self.counts[:, :-1].sum(0)
        iou = _share(right, labelled + predicted - right)
        return SemanticScores(
            iou, float(np.nanmean(iou)), float(right.sum() / total), float(np.nanmean(_share(right, labelled))), total
        )


def _share(part: NDArray[np.float64], whole: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
