"""nuScenes' detection metrics: average precision by centre distance, five errors of true positives, and their score.

Caesar et al.: nuScenes: A multimodal dataset for autonomous driving, CVPR 2020, with the settings of its detection
challenge of 2019.

    mAP = mean over classes and D = {0.5, 1, 2, 4} m of AP_{c,d}                                           eq. 1
    mTP = mean over classes of TP_c                       TP in {ATE, ASE, AOE, AVE, AAE}, matched at 2 m   eq. 2
    NDS = (5 mAP + sum over mTP of (1 - min(1, mTP))) / 10                                                  eq. 3

AP is the area under the curve of precision over recall where both are above 0.1. A TP is the mean, over the recalls
above 0.1 that are reached, of the running mean of the error in order of falling score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.perception3d.data.lidar_objects import LidarObjects
from within.perception3d.metrics.greedy_matching import nearest_matches

RANGES: Mapping[str, float] = {  # metres from the vehicle within which a class counts
    "car": 50.0,
    "truck": 50.0,
    "bus": 50.0,
    "trailer": 50.0,
    "construction_vehicle": 50.0,
    "pedestrian": 40.0,
    "motorcycle": 40.0,
    "bicycle": 40.0,
    "traffic_cone": 30.0,
    "barrier": 30.0,
}
DISTANCES, ERROR_DISTANCE = (0.5, 1.0, 2.0, 4.0), 2.0
LEAST_RECALL, LEAST_PRECISION, RECALLS = 0.1, 0.1, 101
MOST_BOXES = 500
ERRORS = ("ATE", "ASE", "AOE", "AVE", "AAE")
WITHOUT: Mapping[str, tuple[str, ...]] = {"traffic_cone": ("AOE", "AVE", "AAE"), "barrier": ("AVE", "AAE")}


@dataclass(frozen=True)
class NuscenesScore:
    """What nuScenes reports; precisions and the score are shares of 1.

    Attributes:
        mean_precision: mAP.
        score: NDS.
        errors: mean over classes of ATE (metres), ASE (1 - overlap), AOE (radians), AVE (metres a second) and AAE
            (1 - accuracy).
        precisions: by class and distance.
        class_errors: by class and error; a class has no entry for an error that does not apply to it.
    """

    mean_precision: float
    score: float
    errors: Mapping[str, float]
    precisions: Mapping[tuple[str, float], float]
    class_errors: Mapping[tuple[str, str], float]


def nuscenes_score(
    truth: Sequence[LidarObjects],
    detections: Sequence[LidarObjects],
    *,
    vehicles: Float64[np.ndarray, "frames 2"] | None = None,
    racks: Sequence[NDArray[np.float64]] | None = None,
) -> NuscenesScore:
    """Returns mAP, NDS and what they are made of.

    Arguments:
        truth, detections: of the same frames, in the same order; boxes of one frame in one frame of reference. The
            published figures use the global one (`LidarObjects.moved`): the lidar's is tilted by a degree or so.
        vehicles: where the vehicle stands in each frame; at the origin by default.
        racks: boxes (racks, 7) of the bicycle racks of each frame, in which bicycles and motorcycles do not count.

    Raises:
        WithinError: when numbers of frames differ, detections have no scores, a frame has more than 500 detections, or
            a class is none of the ten.
    """
    if len(truth) != len(detections):
        raise WithinError(f"{len(truth)} frames of ground truth and {len(detections)} of detections")
    places = np.zeros((len(truth), 2)) if vehicles is None else vehicles
    stands = [np.zeros((0, 7))] * len(truth) if racks is None else racks
    if len(places) != len(truth) or len(stands) != len(truth):
        raise WithinError(f"{len(truth)} frames, {len(places)} places of the vehicle and {len(stands)} lists of racks")
    for number, frame in enumerate(detections):
        if len(frame) and frame.scores is None:
            raise WithinError("The detections have no scores", where=f"frame {number}")
        if len(frame) > MOST_BOXES:
            raise WithinError(
                f"A frame has {len(frame)} detections",
                where=f"frame {number}",
                todo=f"keep the {MOST_BOXES} of highest score",
            )
    real, found = (
        [_counted(*each) for each in zip(frames, places, stands, range(len(frames)), strict=True)]
        for frames in (truth, detections)
    )
    precisions: dict[tuple[str, float], float] = {}
    class_errors: dict[tuple[str, str], float] = {}
    for name in RANGES:
        rows = _Rows.of(real, found, name)
        for distance in DISTANCES:
            curve = _curve(rows, distance)
            precisions[name, distance] = _average_precision(curve)
            if distance == ERROR_DISTANCE:
                values = _errors(rows, curve, np.pi if name == "barrier" else 2 * np.pi)
                class_errors |= {(name, kind): values[kind] for kind in ERRORS if kind not in WITHOUT.get(name, ())}
    mean = float(np.mean(list(precisions.values())))  # eq. 1
    errors = {  # eq. 2
        kind: float(np.mean([value for (_, each), value in class_errors.items() if each == kind])) for kind in ERRORS
    }
    score = (5 * mean + sum(1 - min(1.0, value) for value in errors.values())) / 10  # eq. 3
    return NuscenesScore(mean, score, errors, precisions, class_errors)


def _counted(
    objects: LidarObjects, vehicle: NDArray[np.float64], racks: NDArray[np.float64], number: int
) -> LidarObjects:
    """Returns the objects that are near enough, hold points, and stand in no bicycle rack."""
    unknown = sorted(set(objects.names) - set(RANGES))
    if unknown:
        raise WithinError(
            f"{unknown[0]!r} is no class of the benchmark", where=f"frame {number}", todo=f"choose among {list(RANGES)}"
        )
    reach = np.array([RANGES[name] for name in objects.names])
    near = np.linalg.norm(objects.boxes[:, :2] - vehicle, axis=1) < reach
    two_wheels = np.array([name in ("bicycle", "motorcycle") for name in objects.names], dtype=bool)
    parked = np.zeros(len(objects), bool)
    for rack in racks:
        away = objects.boxes[:, :3] - rack[:3]
        cos, sin = np.cos(rack[6]), np.sin(rack[6])
        along, across = away[:, 0] * cos + away[:, 1] * sin, away[:, 1] * cos - away[:, 0] * sin
        parked |= (np.abs(np.stack([along, across, away[:, 2]], axis=1)) <= rack[3:6] / 2).all(1)
    return objects.take(near & (objects.point_counts != 0) & ~(two_wheels & parked))


@dataclass(frozen=True, eq=False)
class _Rows:
    """The objects of one class of all frames after one another; detections by falling score."""

    truth: LidarObjects
    truth_starts: NDArray[np.int64]
    found: LidarObjects
    frames: NDArray[np.int64]  # of each detection

    @classmethod
    def of(cls, truth: Sequence[LidarObjects], found: Sequence[LidarObjects], name: str) -> _Rows:
        real, detected = (
            [each.take(np.array([other == name for other in each.names], dtype=bool)) for each in frames]
            for frames in (truth, found)
        )
        starts = np.concatenate([[0], np.cumsum([len(each) for each in real])]).astype(np.int64)
        frames = np.repeat(np.arange(len(detected)), [len(each) for each in detected])
        joined = _joined(detected)
        assert joined.scores is not None
        order = np.argsort(joined.scores, kind="stable")[::-1]
        return cls(_joined(real), starts, joined.take(order), frames[order].astype(np.int64))


def _joined(frames: Sequence[LidarObjects]) -> LidarObjects:
    return LidarObjects(
        tuple(name for each in frames for name in each.names),
        np.concatenate([np.zeros((0, 7)), *(each.boxes for each in frames)]),
        np.concatenate([np.zeros((0, 2)), *(each.velocities for each in frames)]),
        tuple(attribute for each in frames for attribute in each.attributes),
        np.concatenate([np.zeros(0, np.int64), *(each.point_counts for each in frames)]),
        np.concatenate(
            [np.zeros(0), *(np.zeros(len(each)) if each.scores is None else each.scores for each in frames)]
        ),
    )


@dataclass(frozen=True, eq=False)
class _Curve:
    """Precision and score at 101 recalls, and the object that each detection takes, -1 for none."""

    precision: NDArray[np.float64]
    scores: NDArray[np.float64]
    matches: NDArray[np.int64]


def _curve(rows: _Rows, distance: float) -> _Curve:
    matches = nearest_matches(rows.truth.boxes, rows.truth_starts, rows.found.boxes, rows.frames, distance)
    right = matches >= 0
    if not right.any():
        return _Curve(np.zeros(RECALLS), np.zeros(RECALLS), matches)
    assert rows.found.scores is not None
    true = np.cumsum(right).astype(np.float64)
    recall, precision = true / len(rows.truth), true / np.arange(1, len(right) + 1)
    levels = np.linspace(0, 1, RECALLS)
    return _Curve(
        np.interp(levels, recall, precision, right=0), np.interp(levels, recall, rows.found.scores, right=0), matches
    )


def _average_precision(curve: _Curve) -> float:
    above = curve.precision[round(100 * LEAST_RECALL) + 1 :] - LEAST_PRECISION
    return float(np.maximum(above, 0).mean()) / (1 - LEAST_PRECISION)


def _errors(rows: _Rows, curve: _Curve, period: float) -> dict[str, float]:
    """Returns the five errors of a class, each 1 when no recall above 0.1 is reached."""
    first = round(100 * LEAST_RECALL) + 1
    reached = np.flatnonzero(curve.scores)
    last = int(reached[-1]) if len(reached) else 0
    if last < first:
        return dict.fromkeys(ERRORS, 1.0)
    right = curve.matches >= 0
    assert rows.found.scores is not None
    found, real, scores = rows.found.take(right), rows.truth.take(curve.matches[right]), rows.found.scores[right]
    turn = (real.boxes[:, 6] - found.boxes[:, 6] + period / 2) % period - period / 2
    shared = np.minimum(real.boxes[:, 3:6], found.boxes[:, 3:6]).prod(1)
    union = real.boxes[:, 3:6].prod(1) + found.boxes[:, 3:6].prod(1) - shared
    pairs = zip(real.attributes, found.attributes, strict=True)
    values = {
        "ATE": np.linalg.norm(real.boxes[:, :2] - found.boxes[:, :2], axis=1),
        "ASE": 1 - shared / union,
        "AOE": np.abs(turn),
        "AVE": np.linalg.norm(real.velocities - found.velocities, axis=1),
        "AAE": np.array([np.nan if own == "" else float(own != other) for own, other in pairs]),
    }
    levels = curve.scores[first : last + 1]
    return {kind: float(np.interp(levels, scores[::-1], _means(each)[::-1]).mean()) for kind, each in values.items()}


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the mean of what is known up to each place; 0 before anything is, 1 when nothing ever is."""
    known = np.cumsum(~np.isnan(values))
    if not known[-1]:
        return np.ones(len(values))
    found: NDArray[np.float64] = np.nancumsum(values) / np.maximum(known, 1)
    return found
