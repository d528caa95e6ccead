"""Metrics of points, against a count by hand and the properties they must have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.perception3d.metrics.box_accuracy import box_accuracy
from within.perception3d.metrics.part_iou import PartIoU, shape_iou
from within.perception3d.metrics.semantic_iou import PointConfusion


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(2, 6))
def test_semantic_scores_are_those_of_the_definition(seed, classes):
    generator = np.random.default_rng(seed)
    label, guess = generator.integers(0, classes, 50), generator.integers(-1, classes, 50)
    matrix = PointConfusion(classes)
    matrix.update(guess[:20], label[:20])
    matrix.update(guess[20:], label[20:])
    scores = matrix.scores()
    for number in range(classes):
        union = ((guess == number) | (label == number)).sum()
        both = ((guess == number) & (label == number)).sum()
        if union:
            assert scores.class_iou[number] == pytest.approx(both / union)
        else:
            assert np.isnan(scores.class_iou[number])
    assert scores.overall_accuracy == pytest.approx((guess == label).mean())
    assert scores.mean_iou == pytest.approx(np.nanmean(scores.class_iou))


def test_semantic_faults_are_named():
    matrix = PointConfusion(3)
    with pytest.raises(WithinError, match="No point"):
        matrix.scores()
    with pytest.raises(WithinError, match="no class of 0 to 2"):
        matrix.update(np.array([3]), np.array([0]))
    with pytest.raises(WithinError, match="label is of no class"):
        matrix.update(np.array([0]), np.array([-1]))


def test_an_absent_part_counts_one():
    label = np.array([4, 4, 4])
    assert shape_iou(label, label, range(4, 6)) == 1
    assert shape_iou(np.array([4, 4, 5]), label, range(4, 6)) == pytest.approx((2 / 3 + 0) / 2)
    assert shape_iou(np.array([5, 5, 5]), label, range(4, 6)) == 0


def test_instances_and_categories_are_weighed_differently():
    metric = PartIoU()
    bag = np.array([4, 5])
    for _ in range(3):
        metric.update(bag, bag, "Bag")
    metric.update(np.array([36, 36]), np.array([37, 37]), "Mug")
    scores = metric.scores()
    assert scores.instance_mean == pytest.approx(0.75)
    assert scores.class_mean == pytest.approx(0.5)
    assert dict(scores.categories) == {"Bag": 1.0, "Mug": 0.0}
    with pytest.raises(WithinError, match="no category"):
        metric.update(bag, bag, "Bags")
    with pytest.raises(WithinError, match="No object"):
        PartIoU().scores()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999))
def test_relabelling_points_in_another_order_changes_nothing(seed):
    generator = np.random.default_rng(seed)
    label, guess = generator.integers(12, 16, 40), generator.integers(12, 16, 40)
    order = generator.permutation(40)
    assert shape_iou(guess, label, range(12, 16)) == shape_iou(guess[order], label[order], range(12, 16))


def test_boxes_overlap_as_rectangles_and_heights_say():
    box = np.array([[1.0, 1.0, 10.0, 4.0, 2.0, 1.5, 0.3]])
    assert box_accuracy(box, box, ["Car"]).mean_overlap == pytest.approx(1)
    raised = box + np.array([0, 0.75, 0, 0, 0, 0, 0])
    assert box_accuracy(raised, box, ["Car"]).mean_overlap == pytest.approx(1 / 3)
    half = box_accuracy(np.concatenate([raised, box]), np.concatenate([box, box]), ["Car", "Cyclist"])
    assert (half.accuracy, half.class_mean, dict(half.classes)) == (0.5, 0.5, {"Car": 0.0, "Cyclist": 1.0})
    across = box.copy()
    across[0, 6] += np.pi / 2
    assert box_accuracy(across, box, ["Car"]).mean_overlap == pytest.approx(4 / 12)
    with pytest.raises(WithinError, match="cannot be compared"):
        box_accuracy(box[:0], box[:0], [])
