"""Intersection over union from one confusion matrix over the whole set, in the three conventions for void pixels.

    IoU_c = TP_c / (TP_c + FP_c + FN_c)         Everingham et al., IJCV 2010; never averaged over images or batches

V0: void ground truth is ignored; a void prediction on a labelled pixel is a miss (FN), as in the Cityscapes benchmark.
V1: as V0, and void ground truth that is predicted as class c is a false alarm (FP_c); published for CamVid by ESPNet.
V2: void rows and columns are dropped: pixels predicted as void count nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from within.core.errors import WithinError

VOID_CONVENTIONS = ("V0", "V1", "V2")


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says, as fractions of 1.

    Attributes:
        void: the convention for void pixels.
        class_iou: of each class; NaN where its union is empty, neither labelled nor predicted.
        mean_iou: mean over the classes with a union.
        classes_present: number of these.
        pixel_accuracy: share of the labelled pixels that are right.
        class_accuracy: share of each class's labelled pixels that are right; NaN for a class that is not labelled.
        mean_class_accuracy: mean over the labelled classes.
        pixels: number of labelled pixels that were counted.
    """

    void: str
    class_iou: tuple[float, ...]
    mean_iou: float
    classes_present: int
    pixel_accuracy: float
    class_accuracy: tuple[float, ...]
    mean_class_accuracy: float
    pixels: int

    def to_json(self, classes: Sequence[str] | None = None) -> dict[str, Any]:
        """Returns plain values for a JSON file, None in place of NaN.

        Arguments:
            classes: names; the classes' numbers by default.
        """
        names = classes or [str(number) for number in range(len(self.class_iou))]

        def named(values: tuple[float, ...]) -> dict[str, float | None]:
            return {name: None if math.isnan(value) else value for name, value in zip(names, values, strict=True)}

        return {
            "void": self.void,
            "mean_iou": self.mean_iou,
            "classes_present": self.classes_present,
            "class_iou": named(self.class_iou),
            "pixel_accuracy": self.pixel_accuracy,
            "mean_class_accuracy": self.mean_class_accuracy,
            "class_accuracy": named(self.class_accuracy),
            "pixels": self.pixels,
        }


class ConfusionMatrix:
    """Counts pixels by label (row) and prediction (column); the last row and column are void.

    Arguments:
        num_classes: K.
        ignore: the number of void in labels.

    Attributes:
        counts: (K + 1, K + 1).
    """

    def __init__(self, num_classes: int, *, ignore: int = 255) -> None:
        if num_classes < 1 or 0 <= ignore < num_classes:
            raise WithinError(f"A confusion matrix of {num_classes} classes cannot have void as number {ignore}")
        self.num_classes, self.ignore = num_classes, ignore
        self.counts: Int64[Tensor, "rows columns"] = torch.zeros(num_classes + 1, num_classes + 1, dtype=torch.int64)

    def update(self, prediction: Shaped[Tensor, "*pixels"], label: Shaped[Tensor, "*labels"]) -> None:
        """Adds pixels.

        Arguments:
            prediction: class numbers, of any shape; K and above is void.
            label: class numbers or `ignore`, of the same shape.

        Raises:
            WithinError: when the shapes differ, or there are numbers that are neither a class nor void.
        """
        if prediction.shape != label.shape:
            raise WithinError(
                f"Prediction and label differ in shape: {tuple(prediction.shape)} and {tuple(label.shape)}",
                todo="upsample the logits to the label's size and take argmax over the classes before counting",
            )
        if prediction.is_floating_point() or label.is_floating_point():
            raise WithinError(
                f"Class numbers are whole numbers, not {prediction.dtype} and {label.dtype} (prediction and label)",
                todo="take argmax of the logits over the classes first",
            )
        K, truth, guess = self.num_classes, label.to(prediction.device).long(), prediction.long()
        void = truth == self.ignore
        wrong = truth[~void & ((truth < 0) | (truth >= K))]
        if wrong.numel() or (guess < 0).any():
            found = f"label holds the number {int(wrong[0])}" if wrong.numel() else "prediction holds a negative number"
            raise WithinError(
                f"A {found}, where classes are 0 to {K - 1} and void in labels is {self.ignore}",
                todo="convert labels with the data set's label map",
            )
        pairs = truth.masked_fill(void, K) * (K + 1) + guess.clamp(max=K)
        self.counts += torch.bincount(pairs.flatten(), minlength=(K + 1) ** 2).reshape(K + 1, K + 1).cpu()

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Returns the matrix of all pixels of both.

        Raises:
            WithinError: when they are of different classes.
        """
        if (self.num_classes, self.ignore) != (other.num_classes, other.ignore):
            raise WithinError(f"Matrices of {self.num_classes} and {other.num_classes} classes cannot be added")
        total = ConfusionMatrix(self.num_classes, ignore=self.ignore)
        total.counts = self.counts + other.counts
        return total

    def scores(self, void: str = "V0") -> Scores:
        """Returns the metrics.

        Arguments:
            void: the convention for void pixels, see the top of this file.

        Raises:
            WithinError: when no labelled pixel was counted.
        """
        if void not in VOID_CONVENTIONS:
            raise WithinError(f"There is no convention {void!r} for void pixels", todo="choose V0, V1 or V2")
        K = self.num_classes
        inner = self.counts[:K, :K].double()
        correct = inner.diagonal()
        labelled = inner.sum(1) if void == "V2" else self.counts[:K].double().sum(1)  # TP + FN
        predicted = self.counts[:, :K].double().sum(0) if void == "V1" else inner.sum(0)  # TP + FP
        if not labelled.any():
            raise WithinError(
                f"No labelled pixel was counted, there is nothing to score; {int(self.counts.sum())} pixels are void",
                where=f"confusion matrix of {K} classes, {void}",
                todo="check that the labels hold classes and that the set is not empty",
            )
        iou = correct / (labelled + predicted - correct)  # 0 / 0 is NaN: the class is absent
        accuracy = correct / labelled
        return Scores(
            void=void,
            class_iou=tuple(iou.tolist()),
            mean_iou=float(iou.nanmean()),
            classes_present=int((~iou.isnan()).sum()),
            pixel_accuracy=float(correct.sum() / labelled.sum()),
            class_accuracy=tuple(accuracy.tolist()),
            mean_class_accuracy=float(accuracy.nanmean()),
            pixels=int(labelled.sum()),
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the counts as plain numbers, rows by label, the last row and column void."""
        return {"num_classes": self.num_classes, "ignore": self.ignore, "counts": self.counts.tolist()}


def per_cent(share: float) -> float | None:
    """Returns a share as a percentage with two decimals; None for that of an absent class."""
    return None if math.isnan(share) else round(100 * share, 2)
