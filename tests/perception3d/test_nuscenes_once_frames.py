"""nuScenes' and ONCE's frames: real ones, sweeps brought together, and what is missing or damaged."""

from __future__ import annotations

import json

import numpy as np
import pytest

from within.core.errors import WithinError
from within.perception3d.boxes import in_box
from within.perception3d.data.info_files import InfoFile, write_info_file
from within.perception3d.data.nuscenes import CLASSES, NuscenesFrames, find_nuscenes
from within.perception3d.data.once import find_once, read_sequence

KEYFRAME = "n015-2018-07-24-11-22-45+0800.pkl"


def test_boxes_of_a_real_frame_hold_the_points_that_the_infos_count(data):
    """Would catch a wrong frame, order of extents or sense of the yaw: 69 boxes, counts equal or within a few."""
    frames = find_nuscenes(data("perception3d") / "nuscenes", KEYFRAME)
    assert len(frames) == 1
    points, objects = frames.points(0).astype(np.float64), frames.objects(0)
    assert points.shape == (34_688, 5)
    assert (points[:, 4] == 0).all()
    instances = [each for each in frames.infos.frames[0]["instances"] if each["bbox_label_3d"] >= 0]
    counted = np.array([int(each["num_lidar_pts"]) for each in instances])
    inside = np.array([int(in_box(points, box).sum()) for box in objects.boxes])
    assert (np.abs(inside - counted) <= 1 + 0.12 * counted).all()
    assert (inside == counted).mean() > 0.85
    scene = frames.scene(0)
    assert scene.boxes.shape == (int((objects.point_counts > 0).sum()), 9)
    assert set(scene.classes) <= set(CLASSES)


def test_a_real_frame_on_the_map(data):
    frames = find_nuscenes(data("perception3d") / "nuscenes", KEYFRAME)
    objects, there = frames.objects(0), frames.objects(0).moved(frames.to_global(0))
    away = np.linalg.norm(there.boxes[:, :2] - frames.vehicle(0)[:2], axis=1)
    np.testing.assert_allclose(away, np.linalg.norm(objects.boxes[:, :2], axis=1), atol=1.2)  # the lidar is 0.94 m off
    speeds = [np.linalg.norm(each.velocities, axis=1) for each in (objects, there)]
    np.testing.assert_allclose(speeds[0], speeds[1], rtol=1e-2, atol=1e-2)
    back = there.moved(np.linalg.inv(frames.to_global(0)))
    np.testing.assert_allclose(back.boxes[:, :6], objects.boxes[:, :6], atol=1e-6)


def pose(x: float, yaw: float) -> np.ndarray:
    found = np.eye(4)
    found[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    found[0, 3] = x
    return found


def drive(root, *, direct: bool = False) -> np.ndarray:
    """Writes three scans of the same places from a moving, turning vehicle; returns the places as the last saw them."""
    mount = pose(0.9, -1.5)
    world = np.random.default_rng(0).uniform(5, 40, (50, 3))
    scans = []
    for number, (x, yaw) in enumerate(((2.0, 0.3), (1.0, 0.1), (0.0, 0.0))):
        way = pose(x, yaw) @ mount
        seen = np.linalg.solve(way, np.append(world, np.ones((50, 1)), axis=1).T).T[:, :3]
        scans.append((way, seen))
        own = np.concatenate([seen, [[0.5, 0.5, -1]]])
        rows = np.concatenate([own, np.full((51, 1), 30 + number), np.full((51, 1), 7)], axis=1).astype(np.float32)
        folder = root / ("sweeps" if number else "samples") / "LIDAR_TOP"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.pcd.bin").write_bytes(rows.tobytes())
    poses = [pose(2.0, 0.3), pose(1.0, 0.1), pose(0.0, 0.0)]
    listed = []
    for number in (1, 2):
        points = {"lidar_path": f"{number}.pcd.bin", "lidar2ego": mount.tolist()}
        if direct:
            points = {
                "lidar_path": f"{number}.pcd.bin",
                "lidar2sensor": np.linalg.solve(scans[number][0], scans[0][0]).tolist(),
            }
        listed.append({"timestamp": 100 - number / 20, "ego2global": poses[number].tolist(), "lidar_points": points})
    frame = {
        "token": "abc",
        "timestamp": 100.0,
        "ego2global": poses[0].tolist(),
        "lidar_points": {"lidar_path": "0.pcd.bin", "lidar2ego": mount.tolist(), "num_pts_feats": 5},
        "lidar_sweeps": listed,
        "instances": [
            {"bbox_label_3d": 0, "bbox_3d": [9.0, 1, 0, 4, 2, 1.5, 0.1], "num_lidar_pts": 3, "num_radar_pts": 1},
            {"bbox_label_3d": -1, "bbox_3d": [9.0, 1, 0, 4, 2, 1.5, 0.1], "num_lidar_pts": 3},
            {"bbox_label_3d": 8, "bbox_3d": [9.0, 1, 0, 1, 1, 1.5, 0.1], "num_lidar_pts": 0, "velocity": [1.0, 2.0]},
        ],
    }
    categories = {name: number for number, name in enumerate(CLASSES)}
    write_info_file(root / "infos.pkl", InfoFile("nuscenes", categories, (frame,), {}))
    return scans[0][1]


@pytest.mark.parametrize("direct", [False, True])
def test_sweeps_come_to_where_the_last_scan_saw_the_same_places(tmp_path, direct):
    """Through poses and through lidar2sensor; would catch an inverse too many or too few."""
    places = drive(tmp_path, direct=direct)
    points = find_nuscenes(tmp_path, "infos.pkl").points(0)
    assert points.shape == (51 + 50 + 50, 5)  # the vehicle's own points are left out of sweeps
    for number, rows in enumerate((points[:50], points[51:101], points[101:])):
        np.testing.assert_allclose(rows[:, :3], places, atol=1e-4)
        np.testing.assert_allclose(rows[:, 3], 30 + number)
        np.testing.assert_allclose(rows[:, 4], number / 20, atol=1e-6)
    assert len(find_nuscenes(tmp_path, "infos.pkl", sweeps=2).points(0)) == 101
    assert len(find_nuscenes(tmp_path, tmp_path / "infos.pkl", sweeps=1).points(0)) == 51


def test_objects_without_points_or_class(tmp_path):
    drive(tmp_path)
    frames = find_nuscenes(tmp_path, "infos.pkl")
    objects, scene = frames.objects(0), frames.scene(0)
    assert objects.names == ("car", "traffic_cone")
    assert objects.point_counts.tolist() == [4, 0]
    assert np.isnan(objects.velocities[0]).all()
    assert (scene.name, scene.classes) == ("abc", ("car",))
    assert scene.boxes[0, 7:].tolist() == [0, 0]


def test_what_is_missing_or_damaged_is_named(tmp_path):
    drive(tmp_path)
    frames = find_nuscenes(tmp_path, "infos.pkl")
    sweep = tmp_path / "sweeps" / "LIDAR_TOP" / "2.pcd.bin"
    sweep.write_bytes(sweep.read_bytes()[:-6])
    with pytest.raises(WithinError, match=r"no whole number of points.*2\.pcd\.bin"):
        frames.points(0)
    sweep.unlink()
    with pytest.raises(WithinError, match=r"not there.*2\.pcd\.bin.*sweeps"):
        frames.points(0)
    frame = frames.infos.frames[0]
    del frame["lidar_sweeps"][0]["ego2global"]
    with pytest.raises(WithinError, match=r"no 'ego2global'.*frame 0, sweep 0"):
        frames.points(0)
    frame["lidar_sweeps"][0]["ego2global"] = np.zeros((4, 4))
    with pytest.raises(WithinError, match="no turn and shift"):
        frames.points(0)
    frame["instances"][0]["bbox_3d"] = [1.0] * 9
    with pytest.raises(WithinError, match=r"bbox_3d has the shape \(9,\).*instance 0"):
        frames.objects(0)
    del frame["lidar_points"]
    with pytest.raises(WithinError, match=r"no 'lidar_points'.*frame 0"):
        frames.points(0)
    with pytest.raises(WithinError, match="no frame 1 among 1"):
        frames.objects(1)
    with pytest.raises(WithinError, match="at least one scan"):
        find_nuscenes(tmp_path, "infos.pkl", sweeps=0)
    write_info_file(tmp_path / "infos.pkl", InfoFile("kitti", {"Car": 0}, (), {}))
    with pytest.raises(WithinError, match="those of 'kitti'"):
        find_nuscenes(tmp_path, "infos.pkl")


def once(root, **changes) -> dict:
    """Writes a sequence of two frames, one of them annotated."""
    annotations = {
        "names": ["Car", "Cyclist"],
        "boxes_3d": [[10, 1, -1, 4, 2, 1.5, 0.1], [20, 1, -1, 2, 0.6, 1.7, 3.0]],
        "boxes_2d": {"cam01": [[1, 2, 3, 4], [-1, -1, -1, -1]]},
    } | changes
    frames = [{"frame_id": "100", "pose": [0, 0, 0, 1, 5, 6, 7], "annos": annotations}, {"frame_id": "200", "pose": []}]
    folder = root / "data" / "000027"
    (folder / "lidar_roof").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets").mkdir(exist_ok=True)
    (root / "ImageSets" / "val.txt").write_text("000027\n")
    (folder / "000027.json").write_text(json.dumps({"meta_info": {}, "calib": {}, "frames": frames}))
    for name in ("100", "200"):
        (folder / "lidar_roof" / f"{name}.bin").write_bytes(np.ones((6, 4), np.float32).tobytes())
    return annotations


def test_once_frames(tmp_path):
    once(tmp_path)
    frames = find_once(tmp_path, "val")
    assert [each.name for each in frames.frames] == ["100"]
    scene = frames.scene(0)
    assert scene.points.shape == (6, 4)
    assert scene.boxes.shape == (2, 7)
    assert scene.classes == ("Car", "Cyclist")
    assert frames.frames[0].pose.tolist() == [0, 0, 0, 1, 5, 6, 7]
    everything = find_once(tmp_path, "val", annotated=False)
    assert len(everything) == 2
    assert len(everything.scene(1).boxes) == 0
    assert [everything.take([1, 0]).scene(index).name for index in (0, 1)] == ["200", "100"]


def test_some_frames_of_nuscenes_are_those_that_were_asked_for(tmp_path):
    infos = InfoFile("nuscenes", {"car": 0}, tuple({"token": token} for token in "abcd"), {"version": 1})
    frames = NuscenesFrames(tmp_path, infos, sweeps=3)
    some = frames.take([2, 0])
    assert [some.token(index) for index in range(len(some))] == ["c", "a"]
    assert (some.folder, some.sweeps, some.infos.names, len(frames)) == (tmp_path, 3, {0: "car"}, 4)


def test_what_is_wrong_with_a_once_folder_is_named(tmp_path):
    with pytest.raises(WithinError, match=r"no list of the part 'val'.*give the folder"):
        find_once(tmp_path, "val")
    once(tmp_path)
    with pytest.raises(WithinError, match=r"no list of the part 'test'.*\['val'\]"):
        find_once(tmp_path, "test")
    path = tmp_path / "data" / "000027" / "000027.json"
    once(tmp_path, names=["Car", "Tram"])
    with pytest.raises(WithinError, match=r"'Tram' is no class.*frame 0"):
        read_sequence(path)
    once(tmp_path, names=["Car"])
    with pytest.raises(WithinError, match=r"boxes has the shape \(2, 7\), not \(1, 7\).*frame 0"):
        read_sequence(path)
    path.write_text('{"frames": [{"pose": []}]}')
    with pytest.raises(WithinError, match=r"no 'frame_id'.*frame 0"):
        read_sequence(path)
    path.write_text('{"frames": [{"frame_id": "100"}]}')
    with pytest.raises(WithinError, match="No frame is left"):
        find_once(tmp_path, "val")
    (tmp_path / "data" / "000027" / "lidar_roof" / "100.bin").write_bytes(b"\0" * 15)
    with pytest.raises(WithinError, match="no whole number of points"):
        find_once(tmp_path, "val", annotated=False).points(0)
    path.write_text("{")
    with pytest.raises(WithinError, match="not valid JSON"):
        read_sequence(path)
