"""Mean intersection over union of a network on a data set; this is `within segmentation eval`.

One confusion matrix over all images, at the full size of the labels; void in all three conventions (see `metrics`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from within.core.cli.configuration import read_config, read_dataclass
from within.core.device.inference import evaluating, placed
from within.core.errors import WithinError
from within.core.files import atomic_write
from within.core.progress import track
from within.core.report import ReportTable
from within.segmentation.data import SegmentationPairs, find_dataset
from within.segmentation.label_map import LabelMap
from within.segmentation.metrics import VOID_CONVENTIONS, ConfusionMatrix, Scores, per_cent
from within.segmentation.named_network import open_network
from within.segmentation.pictures import coloured
from within.segmentation.prediction import Forward, class_scores, height_width


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated.

    Attributes:
        network: a variant or a run directory; not needed where `weights` is one.
        data: the folder of a data set.
        weights, arguments: of the network, see `open_network`.
        split: part of the data set.
        size: height and width at which the network works.
        classes: names of the network's outputs in their order, where it differs from the data set's.
        limit: first images only.
        device: None takes CUDA where there is one.
        save: a folder for predictions.
    """

    data: str | Path
    network: str | Path | None = None
    weights: str | Path | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    split: str = "val"
    size: Sequence[int] | None = None
    classes: Sequence[str] | None = None
    limit: int | None = None
    device: str | None = None
    save: str | Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """What was counted.

    Attributes:
        matrix: all pixels of the set.
        label_map: the classes.
        images: number of images.
    """

    matrix: ConfusionMatrix
    label_map: LabelMap
    images: int

    def scores(self, void: str = "V0") -> Scores:
        """Returns the metrics under a convention for void pixels."""
        return self.matrix.scores(void)

    def to_json(self) -> dict[str, Any]:
        """Returns the metrics under every convention, as fractions of 1."""
        scores = {void: self.scores(void).to_json(self.label_map.classes) for void in VOID_CONVENTIONS}
        return {"data": self.label_map.name, "images": self.images, "scores": scores}

    def table(self) -> ReportTable:
        """Returns the intersection over union of each class under every convention, and the means, in per cent."""
        scores = [self.scores(void) for void in VOID_CONVENTIONS]
        rows = [
            (name, *(per_cent(each.class_iou[number]) for each in scores))
            for number, name in enumerate(self.label_map.classes)
        ]
        rows.append((f"mean of {scores[0].classes_present}", *(per_cent(each.mean_iou) for each in scores)))
        rows.append(("pixel accuracy", *(per_cent(each.pixel_accuracy) for each in scores)))
        rows.append(("mean class accuracy", *(per_cent(each.mean_class_accuracy) for each in scores)))
        title = f"{self.label_map.name}, {self.images} images: intersection over union, %"
        return ReportTable(
            title, ("class", *VOID_CONVENTIONS), tuple(rows), "a dash: absent from labels and predictions"
        )


def evaluate(
    forward: nn.Module | Forward,
    pairs: SegmentationPairs,
    *,
    size: tuple[int, int] | None = None,
    order: Sequence[int] | None = None,
    device: str | torch.device | None = None,
    save: str | Path | None = None,
    description: str = "Evaluating",
) -> Evaluation:
    """Counts every pixel of a data set.

    Arguments:
        forward: a network, which works in `eval` mode, or what runs one.
        pairs: images with labels.
        size: height and width at which the network works; that of each image by default.
        order: where class k of the network stands in the data set's order, see `LabelMap.reordered`.
        device: where the network works meanwhile; None leaves it where it is.
        save: a folder for predictions, PNG files in the data set's colours.
        description: of the progress bar.

    Raises:
        WithinError: when an image or label cannot be used, or the network has neither as many outputs as there are
            classes, nor one more, for void.
    """
    classes = pairs.label_map.num_classes
    places = None if order is None else _places(order, classes)
    matrix = ConfusionMatrix(classes, ignore=pairs.label_map.ignore)
    with evaluating(forward), placed(forward, device):
        for index in track(range(len(pairs)), description):
            image, label = pairs.read(index)
            scores = class_scores(forward, image[None].float(), size=size)
            if scores.shape[1] not in (classes, classes + 1):  # one more is void
                raise WithinError(
                    f"The network has {scores.shape[1]} outputs, {pairs.label_map.name} has {classes} classes",
                    where=f"{pairs.label_map.name}: {', '.join(pairs.label_map.classes[:4])}, ...",
                    todo="take weights that were trained for this data set, or build the network with classes=...",
                )
            found = scores.argmax(1)[0].cpu()
            if places is not None:
                found = places[found]
            matrix.update(found, label)
            if save is not None:
                _write(Path(save) / f"{pairs.images[index].stem}.png", coloured(found, pairs.label_map))
    return Evaluation(matrix, pairs.label_map, len(pairs))


def main(config: str | Path | Mapping[str, Any]) -> Evaluation:
    """Evaluates as a configuration says.

    Arguments:
        config: a Python configuration, or the settings themselves (see `EvaluationSettings`).

    Raises:
        WithinError: for unknown or missing keys, and as `open_network`, `find_dataset` and `evaluate` do.
    """
    read, where = read_config(config)
    given = {key: value for key, value in read.to_dict().items() if value is not None}
    settings = read_dataclass(EvaluationSettings, given, where)
    pairs = find_dataset(settings.data, settings.split)
    if settings.limit is not None:
        pairs = pairs.take(range(min(settings.limit, len(pairs))))
    named = open_network(settings.network, weights=settings.weights, arguments=settings.arguments)
    return evaluate(
        named.model,
        pairs,
        size=height_width(settings.size),
        order=None if settings.classes is None else pairs.label_map.reordered(settings.classes),
        device=settings.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        save=settings.save,
    )


def _places(order: Sequence[int], classes: int) -> Tensor:
    places = torch.full((256,), classes)  # outputs beyond the classes mean void
    places[: len(order)] = torch.tensor(list(order))
    return places


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
