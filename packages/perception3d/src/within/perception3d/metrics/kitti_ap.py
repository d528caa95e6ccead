"""Average precision of KITTI's object benchmark: image, bird's-eye, 3-D and orientation, at 11 or 40 recalls.

Geiger, Lenz, Urtasun: Are we ready for autonomous driving? The KITTI Vision Benchmark Suite, CVPR 2012; 40 recalls:
Simonelli et al., Disentangling Monocular 3D Object Detection, ICCV 2019. Two passes: without a threshold every object
takes the detection of highest score that overlaps enough, and the scores taken become at most 41 thresholds, at equal
steps of recall; then true and false positives are counted at each. Objects that are too small, hidden or cut off for a
difficulty, and classes that look alike, count neither way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.perception3d.data.kitti_labels import KittiObjects
from within.perception3d.metrics.greedy_matching import counts_at, taken_scores
from within.perception3d.rotated_overlap import box_overlaps, rectangle_overlaps

DIFFICULTIES = ("easy", "moderate", "hard")
LEAST_HEIGHT, MOST_OCCLUDED, MOST_TRUNCATED = (40.0, 25.0, 25.0), (0, 1, 2), (0.15, 0.30, 0.50)
ALIKE: Mapping[str, str] = {"Car": "Van", "Pedestrian": "Person_sitting"}
KINDS = ("image", "bev", "3d")
STRICT: Mapping[str, tuple[float, float, float]] = {  # least overlap in the image, from above, and in space
    "Car": (0.7, 0.7, 0.7),
    "Pedestrian": (0.5, 0.5, 0.5),
    "Cyclist": (0.5, 0.5, 0.5),
    "Van": (0.7, 0.7, 0.7),
    "Person_sitting": (0.5, 0.5, 0.5),
    "Truck": (0.7, 0.7, 0.7),
}
LOOSE: Mapping[str, tuple[float, float, float]] = {
    name: (image, 0.5 if image == 0.7 else 0.25, 0.5 if image == 0.7 else 0.25)
    for name, (image, _, _) in STRICT.items()
}
RECALLS = 41


@dataclass(frozen=True)
class KittiPrecision:
    """Average precision of one class, difficulty and kind, in per cent.

    Attributes:
        r11, r40: over 11 recalls from 0, and over 40 recalls from 1/40.
    """

    r11: float
    r40: float


Precisions = dict[tuple[str, str, str], KittiPrecision]


def average_precision(
    truth: Sequence[KittiObjects],
    detections: Sequence[KittiObjects],
    *,
    classes: Sequence[str] = ("Car", "Pedestrian", "Cyclist"),
    overlaps: Mapping[str, tuple[float, float, float]] = STRICT,
) -> Precisions:
    """Returns the average precision by (class, kind, difficulty); kinds are "image", "bev", "3d" and "aos".

    Arguments:
        truth, detections: of the same frames, in the same order.
        classes: to evaluate.
        overlaps: least overlap of a match, by class and kind: `STRICT` or `LOOSE`.

    Raises:
        WithinError: when the numbers of frames differ, detections have no scores, or a class has no least overlap.
    """
    if len(truth) != len(detections):
        raise WithinError(f"{len(truth)} frames of ground truth and {len(detections)} of detections")
    for number, frame in enumerate(detections):
        if len(frame) and frame.scores is None:
            raise WithinError("The detections have no scores", where=f"frame {number}")
    unknown = [name for name in classes if name not in overlaps]
    if unknown:
        raise WithinError(f"No overlap is known for the class {unknown[0]!r}", todo=f"choose among {list(overlaps)}")
    found: Precisions = {}
    pairs = _Pairs.of(truth, detections)
    for name in classes:
        for level, difficulty in enumerate(DIFFICULTIES):
            states = _truth_states(truth, name, level), _detection_states(detections, name, level)
            for place, kind in enumerate(KINDS):
                precision, orientation = _curves(pairs, states, kind, overlaps[name][place])
                found[name, kind, difficulty] = _averages(precision)
                if kind == "image":
                    found[name, "aos", difficulty] = _averages(orientation)
    return found


@dataclass(frozen=True, eq=False)
class _Pairs:
    """All frames after one another, with the overlap of each detection and object of a frame."""

    truth_starts: NDArray[np.int64]
    detection_starts: NDArray[np.int64]
    overlap_starts: NDArray[np.int64]
    overlaps: Mapping[str, NDArray[np.float64]]
    dont_care: NDArray[np.float64]
    scores: NDArray[np.float64]
    truth_alpha: NDArray[np.float64]
    alpha: NDArray[np.float64]

    @classmethod
    def of(cls, truth: Sequence[KittiObjects], detections: Sequence[KittiObjects]) -> _Pairs:
        overlaps: dict[str, list[NDArray[np.float64]]] = {kind: [] for kind in KINDS}
        dont_care = []
        for objects, found in zip(truth, detections, strict=True):
            first, second = _ground(found), _ground(objects)
            overlaps["image"].append(_image_overlaps(found.image_boxes, objects.image_boxes).ravel())
            overlaps["bev"].append(rectangle_overlaps(first, second).ravel())
            vertical = *_vertical(found), *_vertical(objects)
            overlaps["3d"].append(box_overlaps(first, second, *vertical).ravel())
            ignored = objects.image_boxes[[name == "DontCare" for name in objects.names]]
            share = _image_overlaps(found.image_boxes, ignored, of_first=True)
            dont_care.append(share.max(1, initial=0.0))
        counts = np.array([[len(a), len(b)] for a, b in zip(truth, detections, strict=True)], np.int64)
        counts = counts.reshape(-1, 2)
        return cls(
            _starts(counts[:, 0]),
            _starts(counts[:, 1]),
            _starts(counts[:, 0] * counts[:, 1]),
            {kind: _joined(values) for kind, values in overlaps.items()},
            _joined(dont_care),
            _joined([np.zeros(0) if each.scores is None else each.scores for each in detections]),
            _joined([each.alpha for each in truth]),
            _joined([each.alpha for each in detections]),
        )


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _joined(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros(0), *values])


def _ground(objects: KittiObjects) -> NDArray[np.float64]:
    """Returns rectangles in x and z; turning about y, which points down, goes from z towards x."""
    x, z = objects.locations[:, 0], objects.locations[:, 2]
    return np.stack([x, z, objects.sizes[:, 0], objects.sizes[:, 2], -objects.rotations], axis=1)


def _vertical(objects: KittiObjects) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns where boxes begin and end along y, which points down; a location is that of the bottom."""
    bottom = np.ascontiguousarray(objects.locations[:, 1])
    return bottom - objects.sizes[:, 1], bottom


def _image_overlaps(
    first: NDArray[np.float64], second: NDArray[np.float64], *, of_first: bool = False
) -> NDArray[np.float64]:
    """Returns intersection over union, or over the area of the first, of all pairs of image boxes."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    whole = areas[0][:, None] + (0 if of_first else areas[1][None] - shared)
    found: NDArray[np.float64] = np.where(shared > 0, shared / np.where(whole > 0, whole, 1), 0)
    return found


def _truth_states(frames: Sequence[KittiObjects], name: str, level: int) -> NDArray[np.int64]:
    """Returns 0 for what must be found, 1 for what may be, -1 for everything else."""
    found = []
    for objects in frames:
        names = np.array(objects.names, dtype=object)
        height = objects.image_boxes[:, 3] - objects.image_boxes[:, 1]
        hard = (
            (objects.occluded > MOST_OCCLUDED[level])
            | (objects.truncated > MOST_TRUNCATED[level])
            | (height <= LEAST_HEIGHT[level])
        )
        states = np.where(names == name, np.where(hard, 1, 0), np.where(names == ALIKE.get(name), 1, -1))
        found.append(states.astype(np.int64))
    return np.concatenate([np.zeros(0, np.int64), *found])


def _detection_states(frames: Sequence[KittiObjects], name: str, level: int) -> NDArray[np.int64]:
    """Returns 0 for detections of the class, 1 for all that are too small, -1 for other classes."""
    found = []
    for objects in frames:
        names = np.array(objects.names, dtype=object)
        height = np.abs(objects.image_boxes[:, 3] - objects.image_boxes[:, 1])
        found.append(np.where(height < LEAST_HEIGHT[level], 1, np.where(names == name, 0, -1)).astype(np.int64))
    return np.concatenate([np.zeros(0, np.int64), *found])


def _curves(
    pairs: _Pairs, states: tuple[NDArray[np.int64], NDArray[np.int64]], kind: str, least: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns precision and orientation similarity at the 41 recalls, each the best at that recall or beyond."""
    starts = pairs.truth_starts, pairs.detection_starts, pairs.overlap_starts
    arrays = pairs.overlaps[kind], *states, pairs.scores
    dont_care = pairs.dont_care if kind == "image" else np.zeros(len(pairs.scores))
    taken = taken_scores(*starts, *arrays, least)
    levels = _thresholds(np.sort(taken)[::-1], int((states[0] == 0).sum()))
    counts = counts_at(*starts, *arrays, dont_care, pairs.truth_alpha, pairs.alpha, least, levels)
    precision, orientation = np.zeros(RECALLS), np.zeros(RECALLS)
    positives = np.maximum(counts[:, 0] + counts[:, 1], 1)
    precision[: len(levels)] = counts[:, 0] / positives
    orientation[: len(levels)] = counts[:, 2] / positives
    return tuple(np.maximum.accumulate(curve[::-1])[::-1] for curve in (precision, orientation))  # type: ignore[return-value]


def _averages(curve: NDArray[np.float64]) -> KittiPrecision:
    return KittiPrecision(100 * float(curve[::4].mean()), 100 * float(curve[1:].mean()))


def _thresholds(scores: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Returns the scores nearest to the recalls 0, 1/40, ..., 1."""
    found, recall = [], 0.0
    for place, score in enumerate(scores):
        last = place == len(scores) - 1
        here = (place + 1) / count
        after = here if last else (place + 2) / count
        if after - recall < recall - here and not last:
            continue
        found.append(score)
        recall += 1 / (RECALLS - 1)
    return np.array(found)
