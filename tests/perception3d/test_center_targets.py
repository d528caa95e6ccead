"""Targets, losses and decoding of CenterPoint: what is written into the maps can be read back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from within.perception3d.center_decoding import Decoding, decode_centers
from within.perception3d.center_loss import CenterLossWeights, center_loss, focal_loss
from within.perception3d.center_targets import center_targets
from within.perception3d.heatmap import MapGrid, draw, gaussian_radius
from within.perception3d.rotated_nms import rotated_nms
from within.perception3d.rotated_overlap import rectangle_overlaps

GRID = MapGrid((0.0, -8.0), (0.4, 0.4), (40, 50))
BOXES = [
    [4.1, 1.3, -0.9, 3.9, 1.6, 1.5, 0.3],
    [10.05, -5.5, -0.7, 0.8, 0.6, 1.8, -2.0],
    [15.3, 3.3, -0.8, 1.7, 0.6, 1.7, 3.0],
]


def batch(boxes=BOXES, labels=(0, 1, 2)):
    return torch.tensor([boxes]), torch.tensor([labels])


def perfect_maps(boxes, labels, classes=(0, 1, 2)):
    """Returns the maps of a head that has learned its targets by heart."""
    targets = center_targets(boxes, labels, classes, GRID)
    values = torch.zeros(len(boxes), boxes.shape[2] + 1, GRID.shape[0] * GRID.shape[1])
    for sample in range(len(boxes)):
        for number in range(targets.pixels.shape[1]):
            if targets.present[sample, number]:
                values[sample, :, targets.pixels[sample, number]] = targets.boxes[sample, number]
    maps = values.view(len(boxes), -1, *GRID.shape)
    heatmap = torch.logit(targets.heatmap.clamp(1e-4, 1 - 1e-4))
    return {
        "heatmap": heatmap,
        "center": maps[:, :2],
        "center_z": maps[:, 2:3],
        "dim": maps[:, 3:6],
        "rot": maps[:, 6:8],
    }


def test_what_is_written_is_read_back():
    boxes, labels = batch()
    found = decode_centers([perfect_maps(boxes, labels)], [(0, 1, 2)], GRID, Decoding(least_score=0.99))[0]
    assert sorted(found.labels.tolist()) == [0, 1, 2]
    order = np.argsort(found.labels)
    np.testing.assert_allclose(found.boxes[order], BOXES, atol=1e-4)


def test_perfect_maps_have_no_box_loss_and_a_small_focal_loss():
    boxes, labels = batch()
    losses = center_loss([perfect_maps(boxes, labels)], boxes, labels, [(0, 1, 2)], GRID)
    assert float(losses["boxes"]) < 1e-6
    shifted = perfect_maps(boxes, labels)
    shifted["heatmap"] = shifted["heatmap"].roll(7, dims=3)
    worse = center_loss([shifted], boxes, labels, [(0, 1, 2)], GRID)
    assert float(worse["heatmap"]) > 10 * float(losses["heatmap"])


def test_classes_are_shared_out_among_tasks():
    boxes, labels = batch()
    tasks = [(0,), (1, 2)]
    maps = [perfect_maps(boxes, labels, classes) for classes in tasks]
    found = decode_centers(maps, tasks, GRID, Decoding(least_score=0.99))[0]
    assert sorted(found.labels.tolist()) == [0, 1, 2]
    assert maps[1]["heatmap"].shape[1] == 2


def test_no_object_at_all():
    boxes, labels = torch.zeros(2, 1, 7), torch.full((2, 1), -1)
    maps = perfect_maps(boxes, labels)
    losses = center_loss([maps], boxes, labels, [(0, 1, 2)], GRID)
    assert float(losses["boxes"]) == 0
    assert torch.isfinite(losses["heatmap"])
    assert [len(each) for each in decode_centers([maps], [(0, 1, 2)], GRID)] == [0, 0]


def test_boxes_of_no_size_are_left_out():
    boxes, labels = batch([[4.1, 1.3, -0.9, 0.0, 1.6, 1.5, 0.3], BOXES[1]], (0, 1))
    targets = center_targets(boxes, labels, (0, 1, 2), GRID)
    assert int(targets.present.sum()) == 1
    assert torch.isfinite(targets.boxes).all()


def test_empty_centres_move_to_the_nearest_occupied_pixel():
    boxes, labels = batch([BOXES[0]], (0,))
    column, row = int(4.1 / 0.4), int(9.3 / 0.4)
    occupied = torch.zeros(1, *GRID.shape, dtype=torch.bool)
    occupied[0, row, column + 3] = occupied[0, row - 6, column] = True
    targets = center_targets(boxes, labels, (0,), GRID, occupied=occupied)
    assert targets.pixels.tolist() == [[row * GRID.shape[1] + column + 3]]
    assert targets.boxes[0, 0, 0] == pytest.approx(4.1 / 0.4 - column - 3, abs=1e-4)
    nothing = center_targets(boxes, labels, (0,), GRID, occupied=torch.zeros_like(occupied))
    assert not nothing.present.any()
    assert not nothing.heatmap.any()


def test_velocities_that_are_unknown_do_not_count():
    boxes = torch.tensor([[[*BOXES[0], 1.0, float("nan")]]])
    labels = torch.tensor([[0]])
    maps = perfect_maps(boxes.nan_to_num(), labels, (0,))
    maps["vel"] = torch.zeros(1, 2, *GRID.shape, requires_grad=True)
    losses = center_loss([maps], boxes, labels, [(0,)], GRID, CenterLossWeights(velocity=0.2))
    assert losses["boxes"].item() == pytest.approx(2 * 0.2 * 1.0, rel=1e-5)
    losses["boxes"].backward()
    assert torch.isfinite(maps["vel"].grad).all()


def test_focal_loss_by_its_definition():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(1, 2, 5, 6, generator=generator).clamp(1e-4, 1 - 1e-4)
    target = torch.rand(1, 2, 5, 6, generator=generator)
    target[0, 0, 2, 3] = target[0, 1, 1, 1] = 1
    expected = 0.0
    for chance, wanted in zip(scores.flatten().tolist(), target.flatten().tolist(), strict=True):
        if wanted == 1:
            expected -= (1 - chance) ** 2 * math.log(chance)
        else:
            expected -= (1 - wanted) ** 4 * chance**2 * math.log(1 - chance)
    assert float(focal_loss(scores, target)) == pytest.approx(expected / 2, rel=1e-5)


def test_radius_of_the_published_code():
    """Roots divided by 2, not by 2a; numbers by hand."""
    length, width, overlap = 9.75, 4.0, 0.1
    thirds = []
    for a, b, c in (
        (1, length + width, length * width * (1 - overlap) / (1 + overlap)),
        (4, 2 * (length + width), (1 - overlap) * length * width),
        (4 * overlap, -2 * overlap * (length + width), (overlap - 1) * length * width),
    ):
        thirds.append((b + math.sqrt(b * b - 4 * a * c)) / 2)
    assert gaussian_radius(length, width) == pytest.approx(min(thirds))


@given(st.integers(-3, 14), st.integers(-3, 14), st.integers(0, 9))
def test_gaussians_are_cut_at_the_border_and_never_lower_anything(row, column, radius):
    heatmap = np.full((12, 12), 0.3, np.float32)
    draw(heatmap, row, column, radius)
    assert heatmap.min() >= np.float32(0.3)
    assert heatmap.max() <= 1
    if 0 <= row < 12 and 0 <= column < 12:
        assert heatmap[row, column] == 1


def test_suppression_keeps_the_best_of_each_heap_and_is_exact():
    generator = np.random.default_rng(0)
    boxes = np.concatenate([generator.uniform(0, 8, (60, 3)), generator.uniform(1, 3, (60, 3)),
                            generator.uniform(-3, 3, (60, 1))], axis=1)  # fmt: skip
    scores = generator.random(60)
    kept = rotated_nms(boxes, scores, 0.3)
    overlaps = rectangle_overlaps(boxes[:, [0, 1, 3, 4, 6]], boxes[:, [0, 1, 3, 4, 6]])
    expected = []
    for row in np.argsort(-scores):
        if all(overlaps[row, other] <= 0.3 for other in expected):
            expected.append(row)
    assert kept.tolist() == expected
    assert rotated_nms(boxes, scores, 0.3, after=5).tolist() == expected[:5]
    assert len(rotated_nms(boxes[:0], scores[:0], 0.3)) == 0
