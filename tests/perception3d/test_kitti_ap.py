"""KITTI's average precision: golden figures of the public evaluation, and what overlaps and labels must obey."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.perception3d.data.kitti_labels import KittiObjects, read_labels, write_detections
from within.perception3d.metrics.kitti_ap import DIFFICULTIES, KINDS, LOOSE, average_precision
from within.perception3d.rotated_overlap import box_overlaps, rectangle_overlaps

LINE = "Car 0.00 0 1.50 100.00 100.00 200.00 180.00 1.50 1.60 4.00 1.00 1.60 20.00 0.30"


def test_golden_figures(data):
    """42 frames with 36 figures of OpenPCDet's evaluation, to 1e-3; and the 11-recall ones it prints."""
    folder = data("perception3d") / "golden_kitti_eval"
    names = sorted(path.name for path in (folder / "gt").glob("*.txt"))
    truth, found = ([read_labels(folder / part / name) for name in names] for part in ("gt", "dt"))
    precisions = average_precision(truth, found)
    expected = json.loads((folder / "expected.json").read_text())
    assert len(expected) == 36
    for key, value in expected.items():
        name, kind, difficulty = key.replace("_R40", "").replace("/", "_").split("_")
        assert precisions[name, kind, difficulty].r40 == pytest.approx(value, abs=1e-3), key
    car = [precisions["Car", "3d", difficulty].r11 for difficulty in DIFFICULTIES]
    assert car == pytest.approx([72.4432, 90.7925, 90.8046], abs=1e-3)
    loose = average_precision(truth, found, overlaps=LOOSE)
    assert [loose["Car", "3d", each].r40 for each in DIFFICULTIES] == pytest.approx([75.0, 92.5, 92.5])


def frame(*lines: str, tmp_path) -> KittiObjects:
    path = tmp_path / "label.txt"
    path.write_text("\n".join(lines) + "\n")
    return read_labels(path)


def test_what_is_found_exactly_is_worth_all_recalls_that_the_objects_allow(tmp_path):
    """Sixty copies of one frame: every recall is reached, so the average is 100 for every kind and difficulty."""
    truth = [frame(LINE, tmp_path=tmp_path)] * 60
    found = [frame(f"{LINE} 0.9", tmp_path=tmp_path)] * 60
    precisions = average_precision(truth, found, classes=["Car"])
    for kind, difficulty in itertools.product((*KINDS, "aos"), DIFFICULTIES):
        assert precisions["Car", kind, difficulty].r40 == pytest.approx(100)
    backwards = [frame(f"{LINE.replace(' 1.50 100.00', f' {1.5 - math.pi} 100.00')} 0.9", tmp_path=tmp_path)] * 60
    turned = average_precision(truth, backwards, classes=["Car"])
    assert turned["Car", "aos", "easy"].r40 == pytest.approx(0, abs=1e-6)
    assert turned["Car", "image", "easy"].r40 == pytest.approx(100)


def test_vans_and_dont_care_regions_count_neither_way(tmp_path):
    van = LINE.replace("Car", "Van").replace("20.00 0.30", "30.00 0.30").replace("100.00 100.00 200", "300 100 400")
    dont_care = "DontCare -1 -1 -10 500.00 100.00 600.00 180.00 -1 -1 -1 -1000 -1000 -1000 -10"
    there = LINE.replace("100.00 100.00 200", "510 100 590").replace("1.00 1.60 20.00", "9.00 1.60 20.00")
    truth = [frame(LINE, van, dont_care, tmp_path=tmp_path)] * 60
    found = [frame(f"{LINE} 0.5", f"{van.replace('Van', 'Car')} 0.9", f"{there} 0.8", tmp_path=tmp_path)] * 60
    precisions = average_precision(truth, found, classes=["Car"])
    assert precisions["Car", "image", "easy"].r40 == pytest.approx(100)
    assert precisions["Car", "3d", "easy"].r40 < 60  # DontCare regions exist in the image only


def test_a_class_without_objects_is_zero_and_empty_frames_are_no_error(tmp_path):
    empty = frame("", tmp_path=tmp_path)
    assert len(empty) == 0
    precisions = average_precision([empty], [frame(f"{LINE} 0.5", tmp_path=tmp_path)])
    assert {each.r40 for each in precisions.values()} == {0.0}
    assert average_precision([], [])["Car", "3d", "hard"].r11 == 0
    assert average_precision([frame(LINE, tmp_path=tmp_path)], [empty])["Car", "3d", "hard"].r40 == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9999))
def test_rotated_overlaps_are_those_of_many_points(seed):
    """Monte Carlo: the share of points of the first rectangle that lie in the second."""
    generator = np.random.default_rng(seed)
    first, second = (
        np.array([*generator.uniform(-1, 1, 2), *generator.uniform(0.5, 3, 2), generator.uniform(-4, 4)])
        for _ in range(2)
    )
    inside = generator.uniform(-0.5, 0.5, (40_000, 2)) * first[2:4]
    turn = np.array([[np.cos(first[4]), -np.sin(first[4])], [np.sin(first[4]), np.cos(first[4])]])
    away = inside @ turn.T + first[:2] - second[:2]
    back = np.array([[np.cos(second[4]), np.sin(second[4])], [-np.sin(second[4]), np.cos(second[4])]])
    share = (np.abs(away @ back.T) <= second[2:4] / 2).all(1).mean()
    shared = share * first[2] * first[3]
    expected = shared / (first[2] * first[3] + second[2] * second[3] - shared)
    found = rectangle_overlaps(first[None], second[None])[0, 0]
    assert found == pytest.approx(expected, abs=0.02)
    assert rectangle_overlaps(second[None], first[None])[0, 0] == pytest.approx(found, abs=1e-9)
    assert rectangle_overlaps(first[None], first[None])[0, 0] == pytest.approx(1)


def test_boxes_overlap_by_height_too():
    box = np.array([[0.0, 0.0, 2.0, 1.0, 0.3]])
    low, high = np.zeros(1), np.ones(1)
    assert box_overlaps(box, box, low, high, low + 0.5, high + 0.5)[0, 0] == pytest.approx(1 / 3)
    assert box_overlaps(box, box, low, high, low + 2, high + 2)[0, 0] == 0
    nothing = np.array([[0.0, 0.0, 0.0, 0.0, 0.0]])
    assert np.isfinite(box_overlaps(nothing, nothing, low, low, low, low)).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{LINE}\nCar 1 2 3", "4 columns.*line 2"),
        (LINE.replace("1.60 20.00", "x 20.00"), "no number.*line 1"),
        (LINE.replace("1.60 20.00", "nan 20.00"), "NaN or infinite.*line 1"),
        (f"{LINE} 0.5\n{LINE}", "have a score.*line 2"),
    ],
)
def test_malformed_lines_are_named(tmp_path, text, words):
    (tmp_path / "000007.txt").write_text(text)
    with pytest.raises(WithinError, match=words):
        read_labels(tmp_path / "000007.txt")


def test_missing_files_and_scores_are_named(tmp_path):
    with pytest.raises(WithinError, match="could not be read"):
        read_labels(tmp_path / "none.txt")
    objects = frame(LINE, tmp_path=tmp_path)
    with pytest.raises(WithinError, match="no scores"):
        average_precision([objects], [objects])
    with pytest.raises(WithinError, match="1 frames of ground truth and 2"):
        average_precision([objects], [objects, objects])
    with pytest.raises(WithinError, match="need scores"):
        write_detections(tmp_path / "x.txt", objects)


def test_detections_are_read_as_they_were_written(tmp_path):
    objects = frame(f"{LINE} 0.8125", f"{LINE.replace('Car', 'Cyclist')} 0.25", tmp_path=tmp_path)
    write_detections(tmp_path / "again.txt", objects)
    again = read_labels(tmp_path / "again.txt")
    assert again.names == objects.names
    for name in ("alpha", "image_boxes", "sizes", "locations", "rotations", "scores"):
        np.testing.assert_allclose(getattr(again, name), getattr(objects, name), atol=1e-4)
    assert again.take([1]).names == ("Cyclist",)
