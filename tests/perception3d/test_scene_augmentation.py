"""Changed scenes: boxes go with their points, whatever is done to both."""

from __future__ import annotations

import numpy as np
import pytest

from within.perception3d.boxes import in_box
from within.perception3d.data.scene import Scene
from within.perception3d.rotated_overlap import rectangle_overlaps
from within.perception3d.scene_augmentation import Augmentation, augment, object_samples
from within.perception3d.training_scenes import padded_boxes, within_region
from within.perception3d.voxels import VoxelGrid


def scene_with(boxes, seed=0, classes=None):
    generator = np.random.default_rng(seed)
    boxes = np.array(boxes, np.float32)
    points = [generator.uniform((0, -20, -2, 0), (40, 20, 1, 1), (500, 4))]
    for box in boxes:
        inside = generator.uniform(-0.45, 0.45, (30, 3)) * box[3:6]
        cos, sin = np.cos(box[6]), np.sin(box[6])
        turned = np.stack(
            [inside[:, 0] * cos - inside[:, 1] * sin, inside[:, 0] * sin + inside[:, 1] * cos, inside[:, 2]], 1
        )
        points.append(np.concatenate([turned + box[:3], generator.random((30, 1))], axis=1))
    return Scene("s", np.concatenate(points).astype(np.float32), boxes, tuple(classes or ["Car"] * len(boxes)))


BOXES = [[10, 3, 0, 4, 2, 1.5, 0.4], [20, -8, 0, 4, 2, 1.5, 2.5]]


@pytest.mark.parametrize("flip", [True, "both", False])
def test_points_stay_in_their_boxes(flip):
    scene = scene_with(BOXES)
    counts = [int(in_box(scene.points, box).sum()) for box in scene.boxes]
    for seed in range(8):
        changed = augment(scene, Augmentation(flip=flip), np.random.default_rng(seed))
        # single precision may move a point over the border
        assert [int(in_box(changed.points, box, 1e-4).sum()) for box in changed.boxes] == pytest.approx(counts, abs=1)
    assert counts == [int(in_box(scene.points, box).sum()) for box in scene.boxes]  # the original is as it was


def test_velocities_turn_along():
    box = [[10, 3, 0, 4, 2, 1.5, 0.4, 3 * np.cos(0.4), 3 * np.sin(0.4)]]  # moves forward
    scene = scene_with(box)
    for seed in range(8):
        changed = augment(scene, Augmentation(flip="both"), np.random.default_rng(seed)).boxes[0]
        assert np.arctan2(changed[8], changed[7]) - changed[6] == pytest.approx(
            2 * np.pi * round((np.arctan2(changed[8], changed[7]) - changed[6]) / (2 * np.pi)), abs=1e-5
        )


def test_objects_put_in_overlap_nothing_and_bring_their_points():
    donor = scene_with([[30, 10, 0, 4, 2, 1.5, 1.0], [10, 3, 0, 4, 2, 1.5, 0.4]], seed=1)

    class One:
        def __len__(self):
            return 1

        def scene(self, index):
            return donor

    samples = object_samples(One(), ("Car",))
    assert len(samples.boxes["Car"]) == 2
    how = Augmentation(flip=False, rotation=0, scale=(1, 1), sample={"Car": 4}, shuffle=False)
    scene = scene_with(BOXES)
    changed = augment(scene, how, np.random.default_rng(0), samples)
    assert changed.classes == ("Car",) * 3  # the other would overlap
    ground = changed.boxes[:, [0, 1, 3, 4, 6]].astype(np.float64)
    assert np.triu(rectangle_overlaps(ground, ground), 1).max() == 0
    assert in_box(changed.points, changed.boxes[2]).sum() >= 30


def test_a_scene_without_objects():
    empty = scene_with(np.zeros((0, 7)))
    changed = augment(empty, Augmentation(), np.random.default_rng(0))
    boxes, labels = padded_boxes([changed, scene_with(BOXES)], ("Car",), 7)
    assert boxes.shape == (2, 2, 7)
    assert labels.tolist() == [[-1, -1], [0, 0]]


def test_boxes_outside_of_the_region_are_left_out():
    grid = VoxelGrid((0, -10, -3), (15, 10, 1), (0.5, 0.5, 4))
    assert within_region(scene_with(BOXES), grid).classes == ("Car",)
