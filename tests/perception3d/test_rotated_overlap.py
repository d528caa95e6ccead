"""What overlaps of rotated boxes, and averages made of them, must obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from within.perception3d.data.kitti_labels import KittiObjects
from within.perception3d.metrics.kitti_ap import average_precision
from within.perception3d.rotated_overlap import box_overlaps, rectangle_overlaps
from within.perception3d.synthetic_lidar import synthetic_frame


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9999))
def test_turning_moving_and_swapping_everything_changes_no_overlap(seed):
    generator = np.random.default_rng(seed)
    first, second = (
        np.concatenate(
            [generator.uniform(-3, 3, (5, 2)), generator.uniform(0.2, 4, (5, 2)), generator.uniform(-7, 7, (5, 1))], 1
        )
        for _ in range(2)
    )
    ends = [generator.uniform(-1, 0, 5), generator.uniform(0.1, 1, 5)] * 2
    before = rectangle_overlaps(first, second)
    solid = box_overlaps(first, second, *ends)
    assert (before >= 0).all()
    assert (before <= 1 + 1e-9).all()
    assert (solid <= 1 + 1e-9).all()
    np.testing.assert_allclose(rectangle_overlaps(second, first).T, before, atol=1e-9)
    np.testing.assert_allclose(box_overlaps(second, first, *ends[2:], *ends[:2]).T, solid, atol=1e-9)
    angle, shift = generator.uniform(-7, 7), generator.uniform(-50, 50, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for boxes in (first, second):
        boxes[:, :2] = boxes[:, :2] @ turn.T + shift
        boxes[:, 4] += angle
    np.testing.assert_allclose(rectangle_overlaps(first, second), before, atol=1e-7)
    np.testing.assert_allclose(box_overlaps(first, second, *ends), solid, atol=1e-7)
    second[:, [2, 3]] = second[:, [3, 2]]  # the same rectangle, described the other way round
    second[:, 4] += np.pi / 2
    np.testing.assert_allclose(rectangle_overlaps(first, second), before, atol=1e-7)


def scored(objects: KittiObjects, scores: np.ndarray) -> KittiObjects:
    columns = {name: getattr(objects, name) for name in KittiObjects.__dataclass_fields__ if name != "scores"}
    return KittiObjects(**columns, scores=scores)


@pytest.fixture(scope="module")
def truth() -> list[KittiObjects]:
    return [synthetic_frame(5, number).objects for number in range(25)]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 9999))
def test_kitti_precision_of_synthetic_frames(truth, seed):
    """Found exactly; in another order; and with a false detection of lowest score in every frame."""
    generator = np.random.default_rng(seed)
    exact = [scored(each, generator.uniform(0.1, 1, len(each))) for each in truth]
    perfect = average_precision(truth, exact)
    assert perfect["Car", "3d", "hard"].r40 == pytest.approx(100)
    partial = [each.take(np.flatnonzero(generator.random(len(each)) < 0.6)) for each in exact]
    before = average_precision(truth, partial)
    order = generator.permutation(len(truth))
    after = average_precision([truth[row] for row in order], [partial[row] for row in order])
    assert {key: value.r40 for key, value in after.items()} == pytest.approx(
        {key: value.r40 for key, value in before.items()}
    )
    crowded = []
    for frame, real in zip(partial, truth, strict=True):
        rows = np.append(np.arange(len(frame)), 0) if len(frame) else np.zeros(0, int)
        more = frame.take(rows)
        if len(more):
            more.locations[-1] += np.array([0, 50, 0])
            more.image_boxes[-1] += np.array([0, 900, 0, 900])
            more.scores[-1] = 0.01
        crowded.append(more)
        assert len(real) >= len(frame)
    lower = average_precision(truth, crowded)
    assert all(value.r40 <= before[key].r40 + 1e-9 for key, value in lower.items())
