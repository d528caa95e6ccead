"""KITTI's frames: points, calibration, boxes in two frames, and voxels, on the real files and on broken ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from within.core.errors import WithinError
from within.perception3d.data.kitti_calibration import read_calibration
from within.perception3d.data.kitti_labels import read_labels
from within.perception3d.data.point_files import NUSCENES_COLUMNS, read_points
from within.perception3d.voxels import VoxelGrid, sparse_batch, voxelise

GRID = VoxelGrid((0, -40, -3), (70.4, 40, 1), (0.05, 0.05, 0.1))
FRAMES = ("000000", "000001", "000002", "000004", "000006", "000008")


@pytest.mark.parametrize("frame", FRAMES)
def test_the_points_that_the_camera_sees_are_those_published(data, frame):
    """The published reduced scans, point for point; would catch any matrix in the wrong order."""
    folder = data("perception3d") / "kitti" / "training"
    points = read_points(folder / "velodyne" / f"{frame}.bin")
    calibration = read_calibration(folder / "calib" / f"{frame}.txt")
    with Image.open(folder / "image_2" / f"{frame}.png") as image:
        size = image.height, image.width
    seen = points[calibration.in_image(points, size)]
    np.testing.assert_array_equal(seen, read_points(folder / "velodyne_reduced" / f"{frame}.bin"))


@pytest.mark.parametrize("frame", FRAMES)
def test_boxes_go_to_the_lidar_and_back_and_hold_points(data, frame):
    folder = data("perception3d") / "kitti" / "training"
    calibration = read_calibration(folder / "calib" / f"{frame}.txt")
    objects = read_labels(folder / "label_2" / f"{frame}.txt")
    objects = objects.take([row for row, name in enumerate(objects.names) if name != "DontCare"])
    boxes = calibration.lidar_boxes(objects.locations, objects.sizes, objects.rotations)
    locations, sizes, rotations = calibration.camera_boxes(boxes)
    np.testing.assert_allclose(locations, objects.locations, atol=1e-9)
    np.testing.assert_allclose(sizes, objects.sizes, atol=1e-9)
    np.testing.assert_allclose(rotations, objects.rotations, atol=1e-9)
    places, depths = calibration.image_points(objects.locations)
    assert (depths > 0).all()
    assert (np.abs(places[:, 0] - objects.image_boxes[:, [0, 2]].mean(1)) < 200).all()
    points = read_points(folder / "velodyne" / f"{frame}.bin")[:, :3]
    nearest = boxes[np.argmin(boxes[:, 0])]
    turn = np.array([[np.cos(nearest[6]), -np.sin(nearest[6])], [np.sin(nearest[6]), np.cos(nearest[6])]])
    along = (points[:, :2] - nearest[:2]) @ turn
    inside = (np.abs(along) <= nearest[3:5] / 2).all(1) & (np.abs(points[:, 2] - nearest[2]) <= nearest[5] / 2)
    assert inside.sum() > 10


def test_voxels_of_a_real_scan(data):
    points = read_points(data("perception3d") / "kitti" / "training" / "velodyne_reduced" / "000008.bin")
    voxels = voxelise(points, GRID)
    assert GRID.cells == (1408, 1600, 40)
    assert len(voxels.counts) == 13_092  # in float32, (p - low) / size
    batch = sparse_batch([voxels, voxels], GRID)
    assert batch.shape == (41, 1600, 1408)
    assert len(batch) == 2 * 13_092
    assert int(batch.indices[:, 0].max()) == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(1, 4), st.integers(1, 30))
def test_a_voxel_keeps_the_first_points_that_fall_into_it(seed, most_points, most_voxels):
    generator = np.random.default_rng(seed)
    grid = VoxelGrid((0, 0, 0), (4, 3, 2), (1, 1, 1), most_points, most_voxels)
    points = generator.uniform(-0.5, 4.5, (60, 4)).astype(np.float32)
    cells: dict[tuple[int, ...], list[np.ndarray]] = {}
    for point in points:
        x, y, z = np.floor(point[:3]).astype(int)
        if 0 <= x < 4 and 0 <= y < 3 and 0 <= z < 2:
            cells.setdefault((z, y, x), []).append(point)
    found = voxelise(points, grid)
    expected = list(cells.items())[:most_voxels]
    assert [tuple(place) for place in found.places.tolist()] == [place for place, _ in expected]
    for row, (_, inside) in enumerate(expected):
        kept = np.array(inside[:most_points])
        assert found.counts[row] == len(kept)
        np.testing.assert_array_equal(found.points[row, : len(kept)], kept)
        np.testing.assert_allclose(found.means[row], kept.mean(0), rtol=1e-5)


def test_no_point_in_the_region_is_an_error():
    with pytest.raises(WithinError, match="None of 3 points"):
        voxelise(np.full((3, 4), -5, np.float32), GRID)


def test_broken_scans_are_named(tmp_path):
    path = tmp_path / "scan.bin"
    for content, words in (
        (b"", "empty"),
        (b"\0" * 18, "18 bytes are no whole number"),
        (np.array([[1, 2, np.nan, 0], [0, 0, 0, 0]], np.float32).tobytes(), "1 of 2 points.*first point 0"),
        (np.array([[1, 2, 3, 0], [0, np.inf, 0, 0]], np.float32).tobytes(), "first point 1"),
    ):
        path.write_bytes(content)
        with pytest.raises(WithinError, match=words):
            read_points(path)
    path.write_bytes(b"\0" * 16)
    with pytest.raises(WithinError, match="nuScenes 5"):
        read_points(path, NUSCENES_COLUMNS)
    with pytest.raises(WithinError, match="could not be read"):
        read_points(tmp_path / "none.bin")


def test_nuscenes_points_have_five_columns(data):
    (path,) = (data("perception3d") / "nuscenes").glob("*.bin")
    assert read_points(path, NUSCENES_COLUMNS).shape == (34_688, 5)


def test_broken_calibrations_are_named(data, tmp_path):
    text = (data("perception3d") / "kitti" / "training" / "calib" / "000008.txt").read_text()
    path = tmp_path / "calib.txt"
    for content, words in (
        (text.replace("P2:", "P9:"), "no P2"),
        (text.replace("R0_rect: 9.999239000000e-01", "R0_rect:"), "3 x 3 numbers.*line 5"),
        (text.replace("7.533745000000e-03", "x"), "3 x 4 numbers.*line 6"),
        (text.replace("7.533745000000e-03", "nan"), "NaN.*line 6"),
    ):
        path.write_text(content)
        with pytest.raises(WithinError, match=words):
            read_calibration(path)
    with pytest.raises(WithinError, match="every frame needs"):
        read_calibration(tmp_path / "none.txt")
