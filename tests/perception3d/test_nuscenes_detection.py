"""nuScenes' detection metrics: golden figures that equal the development kit's, and what any such metric must obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.perception3d.nuscenes_frames import random_frames

from within.core.errors import WithinError
from within.perception3d.data.lidar_objects import LidarObjects, lidar_objects
from within.perception3d.metrics.nuscenes_detection import MOST_BOXES, RANGES, nuscenes_score


def joined(first: LidarObjects, second: LidarObjects) -> LidarObjects:
    return lidar_objects(
        first.names + second.names,
        np.concatenate([first.boxes, second.boxes]),
        velocities=np.concatenate([first.velocities, second.velocities]),
        attributes=first.attributes + second.attributes,
        scores=np.concatenate([first.scores, second.scores]),
    )


def scored(frame: LidarObjects, scores) -> LidarObjects:
    return lidar_objects(
        frame.names, frame.boxes, velocities=frame.velocities, attributes=frame.attributes, scores=scores
    )


def test_golden_figures():
    """Sixty random frames; nuscenes-devkit 1.2.0 gives the same, see the integration test."""
    found = nuscenes_score(*random_frames(2, 60))
    assert found.mean_precision == pytest.approx(0.20017140888626, abs=1e-10)
    assert found.score == pytest.approx(0.31263407999210, abs=1e-10)
    errors = {"ATE": 0.721489294673, "ASE": 0.352702107509, "AOE": 0.403785046563, "AVE": 0.700313798847}
    assert found.errors == pytest.approx(errors | {"AAE": 0.696225996919}, abs=1e-10)
    bicycle = [found.precisions["bicycle", each] for each in (0.5, 1.0, 2.0, 4.0)]
    assert bicycle == pytest.approx([0.0074, 0.0442, 0.2145, 0.4069], abs=1e-4)
    assert {kind for name, kind in found.class_errors if name == "traffic_cone"} == {"ATE", "ASE"}
    assert {kind for name, kind in found.class_errors if name == "barrier"} == {"ATE", "ASE", "AOE"}


def perfect(seed: int) -> tuple[list[LidarObjects], list[LidarObjects]]:
    """Returns 20 frames in which all classes stand within every range, with attributes and velocities."""
    generator = np.random.default_rng(seed)
    truth = []
    for _ in range(20):
        boxes = generator.uniform(0.5, 2, (10, 7))
        boxes[:, 0], boxes[:, 1] = np.arange(10) * 2.5 - 12, generator.uniform(-9, 9, 10)
        truth.append(
            lidar_objects(
                list(RANGES), boxes, velocities=generator.normal(0, 2, (10, 2)), attributes=["vehicle.moving"] * 10
            )
        )
    return truth, [scored(frame, generator.uniform(0.1, 1, len(frame))) for frame in truth]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 9999))
def test_what_is_found_exactly_has_the_score_one(seed):
    truth, found = perfect(seed)
    score = nuscenes_score(truth, found)
    assert score.mean_precision == pytest.approx(1)
    assert score.score == pytest.approx(1)
    assert max(score.errors.values()) < 1e-9


def test_nothing_found_is_zero_and_nothing_there_too():
    truth, found = perfect(0)
    none = [frame.take([]) for frame in found]
    for real, detected in ((truth, none), (none, found), ([], [])):
        score = nuscenes_score(real, detected)
        assert score.mean_precision == score.score == 0
        assert set(score.errors.values()) == {1.0}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 9999))
def test_the_order_of_frames_and_the_frame_of_reference_change_nothing(seed):
    generator = np.random.default_rng(seed)
    truth, found = random_frames(seed, 12)
    before = nuscenes_score(truth, found)
    order = generator.permutation(12)
    after = nuscenes_score([truth[row] for row in order], [found[row] for row in order])
    assert after.precisions == pytest.approx(before.precisions)
    assert after.class_errors == pytest.approx(before.class_errors)
    turn = generator.uniform(-3, 3)
    transform = np.eye(4)
    transform[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    transform[:3, 3] = generator.uniform(-900, 900, 3)
    moved = nuscenes_score(
        [frame.moved(transform) for frame in truth],
        [frame.moved(transform) for frame in found],
        vehicles=np.tile(transform[:2, 3], (12, 1)),
    )
    assert moved.precisions == pytest.approx(before.precisions, abs=1e-9)
    assert moved.class_errors == pytest.approx(before.class_errors, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 9999))
def test_a_false_detection_of_lowest_score_raises_no_precision(seed):
    generator = np.random.default_rng(seed)
    truth, found = random_frames(seed, 8)
    before = nuscenes_score(truth, found)
    crowded = []
    for real, frame in zip(truth, found, strict=True):
        places = generator.uniform(-30, 30, (400, 2))
        away = np.linalg.norm(places[:, None] - real.boxes[None, :, :2], axis=2).min(1, initial=9)
        box = [[*places[away > 4][0], 0.0, 4.0, 2.0, 1.5, 0.0]]
        crowded.append(joined(frame, lidar_objects(["car"], box, scores=[0.001])))
    after = nuscenes_score(truth, crowded)
    assert all(value <= before.precisions[key] + 1e-12 for key, value in after.precisions.items())
    empty = [frame.take([name != "car" for name in frame.names]) for frame in truth]
    assert nuscenes_score(empty, crowded).precisions["car", 4.0] == 0


def test_what_is_far_empty_or_in_a_rack_does_not_count():
    box = [[10.0, 0.0, 0.0, 2.0, 1.0, 1.5, 0.0]]
    far = [[41.0, 0.0, 0.0, 2.0, 1.0, 1.5, 0.0]]
    there = lidar_objects(["bicycle"], box, scores=[0.9])
    beyond = joined(there, lidar_objects(["bicycle"], far, scores=[0]))
    assert nuscenes_score([beyond], [there]).precisions["bicycle", 2.0] == pytest.approx(1)
    empty = lidar_objects(["bicycle", "bicycle"], [*box, [20.0, *box[0][1:]]], point_counts=[5, 0])
    assert nuscenes_score([empty], [there]).precisions["bicycle", 2.0] == pytest.approx(1)
    rack = np.array([[10.0, 0.0, 0.0, 3.0, 3.0, 2.0, 0.5]])
    assert nuscenes_score([there], [there], racks=[rack]).precisions["bicycle", 2.0] == 0
    away = np.array([[43.0, 0.0]])
    assert nuscenes_score([there], [there], vehicles=away).precisions["bicycle", 2.0] > 0.99
    assert nuscenes_score([there], [there], vehicles=-away).precisions["bicycle", 2.0] == 0


def test_a_barrier_has_no_front():
    box = np.array([[10.0, 0.0, 0.0, 2.0, 1.0, 1.5, 0.3]])
    turned = box + np.array([0, 0, 0, 0, 0, 0, np.pi])
    for name, expected in (("barrier", 0.0), ("car", np.pi)):
        score = nuscenes_score([lidar_objects([name], box)], [lidar_objects([name], turned, scores=[0.5])])
        assert score.class_errors[name, "AOE"] == pytest.approx(expected, abs=1e-9)


def test_wrong_input_is_named():
    truth, found = perfect(0)
    with pytest.raises(WithinError, match="20 frames of ground truth and 19"):
        nuscenes_score(truth, found[:-1])
    with pytest.raises(WithinError, match=r"no scores.*frame 3"):
        nuscenes_score(truth, [*found[:3], truth[3], *found[4:]])
    many = lidar_objects(["car"] * 501, np.ones((501, 7)), scores=np.ones(501))
    with pytest.raises(WithinError, match=rf"501 detections.*{MOST_BOXES} of highest"):
        nuscenes_score([many], [many])
    tram = lidar_objects(["tram"], np.ones((1, 7)), scores=[1.0])
    with pytest.raises(WithinError, match="'tram' is no class"):
        nuscenes_score([tram], [tram])
    with pytest.raises(WithinError, match="2 places of the vehicle"):
        nuscenes_score(truth, found, vehicles=np.zeros((2, 2)))
    for wrong, words in (
        ({"boxes": np.ones((2, 6))}, r"shape \(2, 6\)"),
        ({"boxes": [[1.0] * 7, [np.nan] * 7]}, r"object 1 \(bus\) is NaN"),
        ({"boxes": np.ones((2, 7)), "scores": [0.5]}, "scores has the shape"),
        ({"boxes": np.ones((2, 7)), "attributes": ["x"]}, "2 names and 1 attributes"),
        ({"boxes": "abc"}, "boxes is no table of numbers"),
    ):
        with pytest.raises(WithinError, match=words):
            lidar_objects(["car", "bus"], **wrong)
