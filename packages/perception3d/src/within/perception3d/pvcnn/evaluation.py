"""Evaluation of point networks, as their results are published: rooms, parts of objects, and frustums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from within.core.device.inference import device_of, evaluating, placed
from within.core.errors import WithinError
from within.core.progress import track
from within.core.report import ReportTable
from within.perception3d.data.frustum import Frustum, turned
from within.perception3d.data.kitti_labels import KittiObjects, read_labels, write_detections
from within.perception3d.data.s3dis import CLASSES
from within.perception3d.data.s3dis_rooms import Rooms
from within.perception3d.data.shapenet_part import CATEGORIES, PARTS, ShapeNetParts
from within.perception3d.metrics.box_accuracy import BoxAccuracy, box_accuracy
from within.perception3d.metrics.kitti_ap import DIFFICULTIES, Precisions, average_precision
from within.perception3d.metrics.part_iou import PartIoU, PartScores
from within.perception3d.metrics.semantic_iou import PointConfusion, SemanticScores
from within.perception3d.pvcnn.frustum import FrustumNetwork
from within.perception3d.pvcnn.frustum_items import camera_objects, frustum_inputs
from within.perception3d.pvcnn.voting import Votes, vote


@dataclass(frozen=True)
class PointEvaluation:
    """What was measured.

    Attributes:
        figures: the figures by which networks are compared, in per cent; the first decides which weights are best.
        details: everything, as JSON values.
        columns, rows: of a table.
    """

    figures: Mapping[str, float]
    details: Mapping[str, Any]
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the figures and all details."""
        return {"figures": dict(self.figures), **self.details}

    def table(self) -> ReportTable:
        """Returns the table that people read, in per cent."""
        return ReportTable("; ".join(f"{name} {value:.2f}" for name, value in self.figures.items()), self.columns,
                           self.rows)  # fmt: skip


def evaluate_rooms(
    network: nn.Module, rooms: Rooms, *, votes: int = 1, limit: int | None = None, seed: int = 0,
    device: str | torch.device | None = None,
) -> PointEvaluation:  # fmt: skip
    """Classifies every point of every room.

    Arguments:
        network: maps (batch, 9, points) to scores.
        rooms: windows that cover the rooms; `points` of them go into the network at once.
        votes: how often each window is seen.
        limit: first rooms only.
        seed: of the shuffling.
        device: where the network works meanwhile; None leaves it.
    """
    generator, matrix = np.random.default_rng(seed), PointConfusion(len(CLASSES))
    with evaluating(network), placed(network, device):
        for room in track(range(min(len(rooms.rooms), limit or len(rooms.rooms))), "Evaluating rooms"):
            labels = rooms.labels(room)
            best = Votes.none(len(labels))
            for window in rooms.windows(room):
                rounds = votes * -(-len(window.rows) // rooms.points)
                found = vote(network, window.features, points=rooms.points, rounds=rounds, generator=generator)
                best.add(window.rows, found.confidences, found.classes)
            matrix.update(best.classes, labels)
    return _of_rooms(matrix.scores())


def evaluate_parts(
    network: nn.Module, shapes: ShapeNetParts, *, votes: int = 10, limit: int | None = None, seed: int = 0,
    device: str | torch.device | None = None,
) -> PointEvaluation:  # fmt: skip
    """Finds the parts of every object; only those of its category can be answered.

    Arguments:
        network: maps (batch, channels, points) to scores of the 50 parts.
        shapes: objects; `points` of them go into the network at once.
        votes: how often each object is seen.
        limit: first objects only.
        seed, device: see `evaluate_rooms`.
    """
    generator, metric = np.random.default_rng(seed), PartIoU()
    with evaluating(network), placed(network, device):
        for index in track(range(min(len(shapes), limit or len(shapes))), "Evaluating objects"):
            shape = shapes.shape(index)
            category = CATEGORIES[shape.category]
            found = vote(
                network, shape.features(normals=shapes.normals), points=shapes.points,
                rounds=votes * -(-len(shape.labels) // shapes.points), classes=PARTS[category], generator=generator,
            )  # fmt: skip
            metric.update(found.classes, shape.labels, category)
    return _of_parts(metric.scores())


def find_boxes(
    network: FrustumNetwork, frustums: Sequence[Frustum], *, points: int = 1024, batch_size: int = 32, seed: int = 0
) -> torch.Tensor:
    """Returns centre, length, width, height and heading (frustums, 7) of the boxes, each in its frustum's frame.

    Arguments:
        network: in `eval` mode.
        frustums: with or without labels.
        points: drawn of each.
        batch_size: frustums at once.
        seed: of the draw.
    """
    found = [torch.zeros(0, 7)]
    for first in track(range(0, len(frustums), batch_size), "Finding boxes"):
        inputs = frustum_inputs(frustums[first : first + batch_size], points=points, seed=seed + first)
        with torch.no_grad():
            features, category = (value.to(device_of(network)) for value in inputs)
            found.append(network.boxes(network(features, category)).cpu())
    return torch.cat(found)


def evaluate_frustums(
    network: FrustumNetwork, frustums: Sequence[Frustum], *, points: int = 1024, labels: str | Path | None = None,
    frames: Sequence[str] = (), save: str | Path | None = None, seed: int = 0,
    device: str | torch.device | None = None,
) -> PointEvaluation:  # fmt: skip
    """Finds a box in every frustum and compares it with the label, or all of them with the labels of their frames.

    Arguments:
        network: a frustum network.
        frustums: labelled ones for the accuracy of boxes, detected ones for KITTI's average precision.
        points: drawn of each.
        labels: folder label_2; gives the average precision.
        frames: for it; those without a frustum count as well.
        save: folder for detections in KITTI's format.
        seed, device: see `evaluate_rooms`.

    Raises:
        WithinError: when there are no frustums, or some have no label and there is no folder of labels.
    """
    if not frustums:
        raise WithinError("There is no frustum to evaluate", todo="check the frames and the 2-D boxes")
    with evaluating(network), placed(network, device):
        boxes = find_boxes(network, frustums, points=points, seed=seed)
    objects = _by_frame(frustums, boxes, frames or sorted({each.frame for each in frustums}))
    if save is not None:
        for name, found in objects.items():
            write_detections(Path(save) / f"{name}.txt", found)
    if labels is not None:
        truth = [read_labels(Path(labels) / f"{name}.txt") for name in objects]
        return _of_precision(average_precision(truth, list(objects.values())))
    true = []
    for each in frustums:
        if each.truth is None:
            raise WithinError("A frustum has no label", where=f"frame {each.frame}", todo="give the folder label_2")
        centre = turned(each.truth.centre[None], each.azimuth)[0]
        true.append(np.array([*centre, *each.truth.size, each.truth.heading - each.azimuth]))
    return _of_boxes(box_accuracy(boxes.double().numpy(), np.array(true), [each.category for each in frustums]))


def _by_frame(frustums: Sequence[Frustum], boxes: torch.Tensor, frames: Sequence[str]) -> dict[str, KittiObjects]:
    found = {}
    for name in frames:
        rows = [row for row, each in enumerate(frustums) if each.frame == name]
        found[name] = camera_objects([frustums[row] for row in rows], boxes[rows])
    return found


def _of_rooms(scores: SemanticScores) -> PointEvaluation:
    figures = {"mean IoU": 100 * scores.mean_iou, "overall accuracy": 100 * scores.overall_accuracy}
    rows = tuple((name, _percent(iou)) for name, iou in zip(CLASSES, scores.class_iou, strict=True))
    return PointEvaluation(figures, scores.to_json(CLASSES), ("class", "IoU, %"), rows)


def _of_parts(scores: PartScores) -> PointEvaluation:
    figures = {"mean IoU": 100 * scores.instance_mean, "class mean IoU": 100 * scores.class_mean}
    rows = tuple((name, _percent(iou)) for name, iou in scores.categories.items())
    return PointEvaluation(figures, scores.to_json(), ("category", "IoU, %"), rows)


def _of_boxes(scores: BoxAccuracy) -> PointEvaluation:
    figures = {
        "class mean accuracy": 100 * scores.class_mean,
        "accuracy": 100 * scores.accuracy,
        "mean overlap": 100 * scores.mean_overlap,
    }
    rows = tuple((name, _percent(share)) for name, share in scores.classes.items())
    return PointEvaluation(figures, scores.to_json(), ("class", "accuracy, %"), rows)


def _of_precision(found: Precisions) -> PointEvaluation:
    classes = list(dict.fromkeys(name for name, _, _ in found))
    figures = {f"{name} moderate AP": found[name, "3d", "moderate"].r11 for name in classes}
    mean = sum(figures.values()) / len(figures)
    details = {
        " ".join(key): {"r11": value.r11, "r40": value.r40} for key, value in found.items() if key[1] in ("bev", "3d")
    }
    rows = tuple((name, *(found[name, "3d", level].r11 for level in DIFFICULTIES)) for name in classes)
    return PointEvaluation({"mean moderate AP": mean, **figures}, details, ("class", *DIFFICULTIES), rows)


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.2f}"
