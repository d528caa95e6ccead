"""Synthetic frames: what rays meet, what labels say, how full the frames are, and the folder they are written to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from within.core.errors import WithinError
from within.perception3d.boxes import in_box
from within.perception3d.data.kitti_calibration import read_calibration
from within.perception3d.data.kitti_labels import read_labels
from within.perception3d.data.point_files import read_points
from within.perception3d.rotated_overlap import rectangle_overlaps
from within.perception3d.synthetic_kitti import SERIES, write_scenes
from within.perception3d.synthetic_lidar import (
    IMAGE_SIZE,
    LEAST_POINTS,
    label,
    scan,
    synthetic_calibration,
    synthetic_frame,
)
from within.perception3d.synthetic_scene import SENSOR_HEIGHT, SIZES, Street, make_street
from within.perception3d.voxels import VoxelGrid, voxelise

GRID = VoxelGrid((0, -40, -3), (70.4, 40, 1), (0.05, 0.05, 0.1))


def street(*solids, names=(), densities=None) -> Street:
    """Returns flat ground with solids, the first of them being the objects."""
    boxes = np.array(solids, np.float64).reshape(-1, 7)
    owners = np.where(np.arange(len(boxes)) < len(names), np.arange(len(boxes)), -1)
    ones = np.ones(len(boxes))
    return Street(
        names, boxes[: len(names)], boxes, owners, 0.5 * ones, ones if densities is None else densities, np.zeros(2)
    )


def test_a_frame_is_the_same_for_its_seed_and_number_alone():
    first = synthetic_frame(3, 5)
    synthetic_frame(3, 4)
    again = synthetic_frame(3, 5)
    np.testing.assert_array_equal(first.points, again.points)
    np.testing.assert_array_equal(first.objects.locations, again.objects.locations)
    assert first.objects.names == again.objects.names
    assert first.points.shape != synthetic_frame(3, 6).points.shape
    assert first.points.shape != synthetic_frame(4, 5).points.shape
    with pytest.raises(WithinError, match="at least 0"):
        synthetic_frame(0, -1)


def test_frames_are_as_full_as_real_ones():
    """Twelve real frames: 18.5k points in range, 15.2k voxels (13.1k to 17.1k), 6.45 % of cells (3.0 to 9.7 %)."""
    points, voxels, cells = [], [], []
    for number in range(10):
        frame = synthetic_frame(11, number)
        seen = frame.points[frame.calibration.in_image(frame.points, frame.image_size)]
        inside = (np.abs(seen[:, 1]) < 40) & (seen[:, 0] < 70.4) & (seen[:, 2] < 1) & (seen[:, 2] >= -3)
        found = voxelise(seen, GRID)
        points.append(int(inside.sum()))
        voxels.append(len(found.counts))
        cells.append(len(np.unique(found.places[:, 1:] // 8, axis=0)) / (200 * 176))
        assert seen[:, 3].min() >= 0
        assert seen[:, 3].max() < 1
        assert 0.15 < np.median(seen[:, 3]) < 0.45
    assert np.mean(points) == pytest.approx(18_500, rel=0.08)
    assert np.mean(voxels) == pytest.approx(15_200, rel=0.08)
    assert np.mean(cells) == pytest.approx(0.0645, rel=0.2)


def test_objects_fill_their_boxes_but_for_a_margin_for_noise():
    """A box drawn too tight would lose half of a face's points to noise."""
    scene = make_street(np.random.default_rng(0))
    for owner, box in enumerate(scene.boxes):
        own = scene.solids[scene.owners == owner]
        along = np.stack([np.cos(own[:, 6]), np.sin(own[:, 6]), 0 * own[:, 6]], axis=1) * own[:, 3:4] / 2
        across = np.stack([-np.sin(own[:, 6]), np.cos(own[:, 6]), 0 * own[:, 6]], axis=1) * own[:, 4:5] / 2
        up = np.array([0, 0, 0.5]) * own[:, 5:6]
        signs = itertools.product((-1, 1), repeat=3)
        corners = np.concatenate([own[:, :3] + x * along + y * across + z * up for x, y, z in signs])
        assert in_box(corners, box * np.array([1, 1, 1, 0.97, 0.97, 1.001, 1])).all()
        assert not in_box(corners, box * np.array([1, 1, 1, 0.95, 2, 2, 1])).all()


def test_nothing_overlaps_and_sizes_are_near_those_of_the_classes():
    sizes: dict[str, list[np.ndarray]] = {name: [] for name in SIZES}
    for seed in range(40):
        scene = make_street(np.random.default_rng(seed))
        assert 6 <= len(scene.names) <= 15
        things = [scene.boxes[:, [0, 1, 3, 4, 6]], scene.solids[scene.owners < 0][:, [0, 1, 3, 4, 6]]]
        between = rectangle_overlaps(*things)
        among = rectangle_overlaps(things[0], things[0]) - np.eye(len(things[0]))
        assert between.max() == 0
        assert among.max() < 1e-9
        for name, box in zip(scene.names, scene.boxes, strict=True):
            sizes[name].append(box[3:6])
            ground = box[:2] @ scene.slope - SENSOR_HEIGHT
            assert box[2] - box[5] / 2 == pytest.approx(ground)
        assert (np.diff(scene.owners[scene.owners >= 0]) >= 0).all()
    for name, found in sizes.items():
        np.testing.assert_allclose(np.mean(found, 0), SIZES[name], rtol=0.06)
        np.testing.assert_allclose(np.std(found, 0) / SIZES[name], 0.1, atol=0.04)


def test_rays_end_on_the_faces_that_they_meet_first():
    wall = (20.0, 0.0, 0.0, 2.0, 10.0, 4.0, 0.0)
    points, _ = scan(street(wall), np.random.default_rng(0))
    met = points[(np.abs(points[:, 1]) < 4.5) & (points[:, 2] > -1.5)]
    assert len(met) > 1000
    assert np.abs(met[:, 0] - 19).max() < 0.12  # noise of 2 cm
    ground = points[points[:, 0] < 18]
    assert np.abs(ground[:, 2] + SENSOR_HEIGHT).max() < 0.06
    assert not ((np.abs(points[:, 1]) < 4) & (points[:, 0] > 22)).any()
    behind, _ = scan(street((-20.0, 0.0, 0.0, 2.0, 10.0, 4.0, 0.0)), np.random.default_rng(0))
    assert (np.abs(behind[:, 2] + SENSOR_HEIGHT) < 0.15).all()


def test_a_turned_box_is_met_at_its_corner():
    points, _ = scan(street((15.0, 0.0, 0.0, 4.0, 4.0, 6.0, np.pi / 4)), np.random.default_rng(0))
    met = points[points[:, 2] > -1.0]
    assert met[:, 0].min() == pytest.approx(15 - 2 * np.sqrt(2), abs=0.12)
    np.testing.assert_allclose(met[:, 0] - np.abs(met[:, 1]), 15 - 2 * np.sqrt(2), atol=0.15)


def test_a_hedge_lets_light_through_and_a_wall_does_not():
    car = (30.0, 0.0, -0.9, 4.0, 1.6, 1.6, 0.0)
    cover = (20.0, 0.0, 0.0, 1.0, 10.0, 5.0, 0.0)
    shares = []
    for density in (0.0, 0.3, 1.0):
        _, hidden = scan(street(car, cover, names=("Car",), densities=np.array([1, density])), np.random.default_rng(0))
        shares.append(hidden[0])
    assert shares[0] == 0
    assert shares[1] == pytest.approx(0.3, abs=0.1)
    assert shares[2] == 1


def test_labels_say_what_is_hidden_and_cut():
    calibration = synthetic_calibration()
    cars = [(12.0, y, -0.93, 4.0, 1.6, 1.6, 0.0) for y in (0.0, 9.5)]
    half = (8.0, 0.35, 0.0, 0.4, 0.7, 4.0, 0.0)
    scene = street(*cars, half, names=("Car", "Car"))
    points, hidden = scan(scene, np.random.default_rng(0))
    objects, counts = label(scene, points, hidden, calibration)
    assert objects.names == ("Car", "Car")
    assert objects.occluded.tolist() in ([1, 0], [2, 0])
    assert objects.truncated[0] == 0
    assert 0.05 < objects.truncated[1] < 0.95
    assert objects.image_boxes[1, 0] == 0
    assert (counts >= LEAST_POINTS).all()
    behind = street((12.0, 0.0, -0.93, 4.0, 1.6, 1.6, 0.0), (8.0, 0.0, 0.0, 0.4, 9.0, 4.0, 0.0), names=("Car",))
    points, hidden = scan(behind, np.random.default_rng(0))
    assert len(label(behind, points, hidden, calibration)[0]) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic")
    write_scenes(root, 5, seed=2)
    return root


def test_written_frames_hold_the_points_that_their_labels_promise(folder):
    for number in range(5):
        name, frame = f"{number:06d}", synthetic_frame(2, number)
        objects = read_labels(folder / "training" / "label_2" / f"{name}.txt")
        calibration = read_calibration(folder / "training" / "calib" / f"{name}.txt")
        points = read_points(folder / "training" / "velodyne" / f"{name}.bin")
        with Image.open(folder / "training" / "image_2" / f"{name}.png") as image:
            assert (image.height, image.width) == IMAGE_SIZE
            assert np.asarray(image).max() > 100
        np.testing.assert_array_equal(points, frame.points)
        assert objects.names == frame.objects.names
        boxes = calibration.lidar_boxes(objects.locations, objects.sizes, objects.rotations)
        seen = points[calibration.in_image(points, IMAGE_SIZE)].astype(np.float64)
        for box, count in zip(boxes, frame.point_counts, strict=True):
            assert int(in_box(seen, box).sum()) == pytest.approx(count, abs=2, rel=0.005)  # four decimals
        assert (objects.image_boxes[:, :2] >= 0).all()
        assert (objects.image_boxes[:, 2:] <= np.array(IMAGE_SIZE[::-1]) - 1).all()
        assert set(objects.occluded) <= {0, 1, 2}
        assert (np.abs(objects.rotations) <= np.pi).all()
        assert (np.abs(objects.alpha) <= np.pi).all()
        middles = (objects.image_boxes[:, :2] + objects.image_boxes[:, 2:]) / 2
        places, _ = calibration.image_points(objects.locations - np.array([0, 0.8, 0]))
        whole = objects.truncated == 0
        assert (np.abs(middles - places)[whole] < 40).all()


def test_a_stopped_series_goes_on_and_another_is_refused(folder, tmp_path):
    root = tmp_path / "series"
    write_scenes(root, 3, seed=2)
    lost = root / "training" / "label_2" / "000001.txt"
    kept = root / "training" / "velodyne" / "000002.bin"
    text, time = lost.read_text(), kept.stat().st_mtime_ns
    lost.unlink()
    write_scenes(root, 5, seed=2)
    assert lost.read_text() == text
    assert kept.stat().st_mtime_ns == time
    for path in (root / "training").rglob("*.*"):
        assert path.read_bytes() == (folder / path.relative_to(root)).read_bytes()
    lists = {part: (root / "ImageSets" / f"{part}.txt").read_text().split() for part in ("train", "val", "trainval")}
    assert lists["val"] == ["000004"]
    assert lists["train"] + lists["val"] == lists["trainval"]
    with pytest.raises(WithinError, match="another series"):
        write_scenes(root, 5, seed=3)
    (root / SERIES).unlink()
    with pytest.raises(WithinError, match="not synthetic"):
        write_scenes(root, 5, seed=2)
    with pytest.raises(WithinError, match="at least one frame"):
        write_scenes(root, 0)
