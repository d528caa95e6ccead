"""Average precision of ONCE: 3-D overlap with a heading within 90 degrees, 50 recalls, overall and by distance.

Mao et al.: One Million Scenes for Autonomous Driving: ONCE Dataset, NeurIPS Datasets and Benchmarks 2021. Cars, buses
and trucks are one class, Vehicle. As in KITTI's benchmark, objects first take detections without a threshold, the
scores taken become thresholds at equal steps of recall, and precision is then counted at each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.perception3d.boxes import wrapped
from within.perception3d.data.lidar_objects import LidarObjects
from within.perception3d.metrics.greedy_matching import counts_at, taken_scores
from within.perception3d.rotated_overlap import box_overlaps

OVERLAPS: Mapping[str, float] = {"Vehicle": 0.7, "Pedestrian": 0.3, "Cyclist": 0.5}
VEHICLES = ("Car", "Bus", "Truck", "Vehicle")
BANDS: Mapping[str, tuple[float, float]] = {  # metres from the lidar, in space
    "overall": (0.0, np.inf),
    "0-30": (0.0, 30.0),
    "30-50": (30.0, 50.0),
    "50+": (50.0, np.inf),
}
RECALLS = 50
SLACK = 1e-6  # of a step of recall, for the rounding of sums


@dataclass(frozen=True)
class OnceScore:
    """What ONCE reports, in per cent.

    Attributes:
        precisions: by class and band of distance.
        means: over the classes, by band; "overall" is the benchmark's mAP.
    """

    precisions: Mapping[tuple[str, str], float]
    means: Mapping[str, float]


def once_average_precision(truth: Sequence[LidarObjects], detections: Sequence[LidarObjects]) -> OnceScore:
    """Returns the average precision of Vehicle, Pedestrian and Cyclist.

    Arguments:
        truth, detections: of the same frames, in the same order, in the lidar's frame.

    Raises:
        WithinError: when the numbers of frames differ, detections have no scores, or a class is unknown.
    """
    if len(truth) != len(detections):
        raise WithinError(f"{len(truth)} frames of ground truth and {len(detections)} of detections")
    for number, frame in enumerate(detections):
        if len(frame) and frame.scores is None:
            raise WithinError("The detections have no scores", where=f"frame {number}")
    known = (*VEHICLES, *OVERLAPS)
    for number, frame in enumerate((*truth, *detections)):
        unknown = sorted(set(frame.names) - set(known))
        if unknown:
            raise WithinError(
                f"{unknown[0]!r} is no class of the benchmark",
                where=f"frame {number % len(truth)}",
                todo=f"choose among {sorted(set(known))}",
            )
    pairs = _Pairs.of(truth, detections)
    precisions = {}
    for name, least in OVERLAPS.items():
        for band, limits in BANDS.items():
            states = _states(truth, name, limits), _states(detections, name, limits)
            precisions[name, band] = _average_precision(pairs, states, least)
    means = {band: float(np.mean([precisions[name, band] for name in OVERLAPS])) for band in BANDS}
    return OnceScore(precisions, means)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """All frames after one another, with the overlap of each detection and object of a frame."""

    truth_starts: NDArray[np.int64]
    found_starts: NDArray[np.int64]
    overlap_starts: NDArray[np.int64]
    overlaps: NDArray[np.float64]
    scores: NDArray[np.float64]

    @classmethod
    def of(cls, truth: Sequence[LidarObjects], found: Sequence[LidarObjects]) -> _Pairs:
        counts = np.array([[len(a), len(b)] for a, b in zip(truth, found, strict=True)], np.int64).reshape(-1, 2)
        first, second, both = (
            np.concatenate([[0], np.cumsum(each)]).astype(np.int64) for each in (*counts.T, counts.prod(1))
        )
        overlaps = [_overlaps(b.boxes, a.boxes).ravel() for a, b in zip(truth, found, strict=True)]
        scores = [np.zeros(0) if each.scores is None else each.scores for each in found]
        return cls(
            first, second, both, np.concatenate([np.zeros(0), *overlaps]), np.concatenate([np.zeros(0), *scores])
        )


def _overlaps(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns intersection over union of all pairs, 0 where the headings are more than 90 degrees apart."""
    ground = [np.ascontiguousarray(boxes[:, [0, 1, 3, 4, 6]]) for boxes in (first, second)]
    ends = [boxes[:, 2] + sign * boxes[:, 5] / 2 for boxes in (first, second) for sign in (-1, 1)]
    turn = np.abs(wrapped(first[:, None, 6] - second[None, :, 6]))
    found: NDArray[np.float64] = np.where(turn > np.pi / 2, 0, box_overlaps(*ground, *ends))
    return found


def _states(frames: Sequence[LidarObjects], name: str, limits: tuple[float, float]) -> NDArray[np.int64]:
    """Returns 0 for what counts, 1 for what counts neither way, -1 for other classes.

    As in the published evaluation, what lies outside the band has 1 whatever its class.
    """
    classes = VEHICLES if name == "Vehicle" else (name,)
    found = [np.zeros(0, np.int64)]
    for objects in frames:
        same = np.array([each in classes for each in objects.names], dtype=bool)
        away = np.linalg.norm(objects.boxes[:, :3], axis=1)
        inside = (away >= limits[0]) & (away < limits[1])
        found.append(np.where(inside, np.where(same, 0, -1), 1).astype(np.int64))
    return np.concatenate(found)


def _average_precision(pairs: _Pairs, states: tuple[NDArray[np.int64], NDArray[np.int64]], least: float) -> float:
    starts = pairs.truth_starts, pairs.found_starts, pairs.overlap_starts
    arrays = pairs.overlaps, *states, pairs.scores
    levels = _thresholds(np.sort(taken_scores(*starts, *arrays, least))[::-1], int((states[0] == 0).sum()))
    chosen, rows = np.unique(levels, return_inverse=True)
    nothing, headings = np.zeros(len(pairs.scores)), (np.zeros(len(states[0])), np.zeros(len(states[1])))
    counts = counts_at(*starts, *arrays, nothing, *headings, least, chosen)
    precision = np.zeros(RECALLS + 1)
    precision[: len(levels)] = (counts[:, 0] / np.maximum(counts[:, 0] + counts[:, 1], 1))[rows]
    return 100 * float(np.maximum.accumulate(precision[::-1])[::-1][1:].mean())


def _thresholds(scores: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Returns the scores nearest to the recalls 0, 1/50, ..., 1; one score may stand for several of few objects."""
    found: list[float] = []
    recall = 0.0
    for place, score in enumerate(scores):
        last = place == len(scores) - 1
        twice = (2 * place + (2 if last else 3)) / count  # the recall here, and that of the next score
        if twice < 2 * recall and not last:
            continue
        found.append(score)
        recall += 1 / RECALLS
        while twice + SLACK > 2 * recall:
            found.append(score)
            recall += 1 / RECALLS
    return np.array(found[: RECALLS + 1])
