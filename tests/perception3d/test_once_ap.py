"""ONCE's average precision: golden figures of the published evaluation, and what it must obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.perception3d.data.lidar_objects import LidarObjects, lidar_objects
from within.perception3d.metrics.once_ap import BANDS, once_average_precision

GOLDEN = {"overall": 48.6698, "0-30": 50.6594, "30-50": 49.6258, "50+": 35.6181}
NAMES = ("Car", "Bus", "Truck", "Pedestrian", "Cyclist")


def random_frames(seed: int, count: int) -> tuple[list[LidarObjects], list[LidarObjects]]:
    """Returns objects and detections, some of these missing, doubled, turned round or of another class."""
    generator = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(count):
        size = int(generator.integers(1, 25))
        names = generator.choice(NAMES, size)
        places = generator.uniform(-45, 45, (size, 2)), generator.uniform(-1, 0, (size, 1))
        boxes = np.concatenate(
            [*places, generator.uniform(1, 4, (size, 3)), generator.uniform(-3, 3, (size, 1))], axis=1
        )
        truth.append(lidar_objects(names.tolist(), boxes))
        seen = np.flatnonzero(generator.random(size) < 0.8)
        rows = np.concatenate([seen, generator.integers(0, size, int(generator.integers(0, 8)))])
        moved = boxes[rows]
        moved[:, :3] += generator.normal(0, 0.05, (len(rows), 3)) * generator.choice((0.3, 1, 5), (len(rows), 1))
        round_about = generator.random(len(rows)) < 0.1
        moved[:, 6] += np.where(round_about, np.pi, generator.normal(0, 0.05, len(rows)))
        moved[:, 6] = (moved[:, 6] + np.pi) % (2 * np.pi) - np.pi
        called = names[rows].copy()
        called[generator.random(len(rows)) < 0.1] = "Car"
        found.append(lidar_objects(called.tolist(), moved, scores=np.round(generator.uniform(0.05, 1, len(rows)), 6)))
    return truth, found


def test_golden_figures():
    """OpenPCDet's evaluation on the same boxes, its compiled overlap replaced by ours."""
    found = once_average_precision(*random_frames(1, 20))
    assert found.means == pytest.approx(GOLDEN, abs=1e-4)
    assert sum(found.precisions[name, "overall"] for name in ("Vehicle", "Pedestrian", "Cyclist")) == pytest.approx(
        3 * found.means["overall"]
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 9999))
def test_what_is_found_exactly_is_worth_all_and_order_does_not_matter(seed):
    generator = np.random.default_rng(seed)
    truth, found = random_frames(seed, 15)
    exact = [lidar_objects(each.names, each.boxes, scores=generator.random(len(each))) for each in truth]
    score = once_average_precision(truth, exact)
    assert score.precisions["Vehicle", "overall"] == score.precisions["Pedestrian", "0-30"] == pytest.approx(100)
    before = once_average_precision(truth, found)
    order = generator.permutation(len(truth))
    after = once_average_precision([truth[row] for row in order], [found[row] for row in order])
    assert after.precisions == pytest.approx(before.precisions)
    bus = [
        lidar_objects(["Vehicle" if name in NAMES[:3] else name for name in each.names], each.boxes) for each in truth
    ]
    assert once_average_precision(bus, found).precisions == pytest.approx(before.precisions)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 9999))
def test_a_false_detection_of_lowest_score_raises_nothing(seed):
    truth, found = random_frames(seed, 6)
    before = once_average_precision(truth, found)
    crowded = [
        lidar_objects(
            (*each.names, "Car", "Cyclist"),
            np.concatenate([each.boxes, [[0, 0, 30, 1, 1, 1, 0.0], [40, 0, 30, 1, 1, 1, 0.0]]]),
            scores=np.concatenate([each.scores, [0.001, 0.001]]),
        )
        for each in found
    ]
    after = once_average_precision(truth, crowded)
    assert all(value <= before.precisions[key] + 1e-9 for key, value in after.precisions.items())


def test_a_heading_that_is_backwards_is_no_match():
    box = np.array([[10.0, 0.0, 0.0, 4.0, 2.0, 1.5, 3.0]])
    truth = [lidar_objects(["Truck"], box)]
    for turn, expected in ((0.0, 100), (0.1, 100), (2 * np.pi, 100), (np.pi, 0), (np.pi / 2 + 0.01, 0)):
        found = lidar_objects(["Car"], box + np.array([0, 0, 0, 0, 0, 0, turn]), scores=[0.5])
        assert once_average_precision(truth, [found]).precisions["Vehicle", "overall"] == pytest.approx(expected)
    near = once_average_precision(truth, [lidar_objects(["Car"], box, scores=[0.5])])
    assert [near.precisions["Vehicle", band] for band in BANDS] == [pytest.approx(100), pytest.approx(100), 0, 0]


def test_wrong_input_is_named():
    truth, found = random_frames(0, 3)
    with pytest.raises(WithinError, match="3 frames of ground truth and 2"):
        once_average_precision(truth, found[:2])
    with pytest.raises(WithinError, match=r"no scores.*frame 0"):
        once_average_precision(truth, truth)
    with pytest.raises(WithinError, match=r"'tram' is no class.*frame 1"):
        once_average_precision(truth, [found[0], lidar_objects(["tram"], np.ones((1, 7)), scores=[1]), found[2]])
    assert once_average_precision([], []).means["overall"] == 0
