"""KITTI's folder written as information files of both tool boxes, and read again."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from within.perception3d.data.info_files import read_info_file, read_info_list, write_info_file, write_info_list
from within.perception3d.data.kitti import find_kitti
from within.perception3d.data.kitti_export import difficulties, openpcdet_infos
from within.perception3d.data.kitti_infos import kitti_calibration, kitti_objects, openpcdet_to_v2

DATA = Path(os.environ.get("WITHIN_DATA", "")) / "perception3d"
pytestmark = pytest.mark.skipif(not (DATA / "kitti").is_dir(), reason="the real frames are not there")


@pytest.fixture(scope="module")
def frames():
    return find_kitti(DATA / "kitti")


def test_the_frames_come_back(frames, tmp_path):
    listed = openpcdet_infos(frames)
    write_info_list(tmp_path / "openpcdet.pkl", listed)
    write_info_file(tmp_path / "v2.pkl", openpcdet_to_v2(read_info_list(tmp_path / "openpcdet.pkl")))
    infos = read_info_file(tmp_path / "v2.pkl")
    assert len(infos.frames) == len(frames) == 7
    for index in range(len(frames)):
        known = frames.labels(index)
        known = known.take([row for row, name in enumerate(known.names) if name != "DontCare"])
        found = kitti_objects(infos, index)
        assert found.names == known.names
        for key in ("locations", "sizes", "rotations", "image_boxes", "truncated", "occluded", "alpha"):
            np.testing.assert_allclose(getattr(found, key), getattr(known, key), rtol=1e-12)
        np.testing.assert_allclose(kitti_calibration(infos, index).to_camera, frames.calibration(index).to_camera)


def test_they_say_what_the_published_file_says(frames):
    """Against MMDetection3D's own information on frame 000000."""
    theirs = read_info_file(DATA / "mmdet3d_infos" / "kitti_infos_train.pkl").frames[0]
    ours = openpcdet_to_v2(openpcdet_infos(frames.take([0]))).frames[0]
    assert ours["sample_idx"] == theirs["sample_idx"]
    assert ours["lidar_points"]["lidar_path"] == theirs["lidar_points"]["lidar_path"]
    for key in ("cam2img", "lidar2cam", "lidar2img"):
        np.testing.assert_allclose(ours["images"]["CAM2"][key], theirs["images"]["CAM2"][key], rtol=1e-4, atol=1e-3)
    for own, other in zip(ours["instances"], theirs["instances"], strict=True):
        assert set(own) <= set(other)
        assert own["bbox_label_3d"] == other["bbox_label_3d"]
        assert own["difficulty"] == other["difficulty"]
        assert abs(own["num_lidar_pts"] - other["num_lidar_pts"]) <= 2
        np.testing.assert_allclose(own["bbox_3d"], other["bbox_3d"], atol=1e-6)


def test_difficulty(frames):
    for index in range(len(frames)):
        objects = frames.labels(index)
        height = objects.image_boxes[:, 3] - objects.image_boxes[:, 1]
        for row, level in enumerate(difficulties(objects)):
            if level == 0:
                assert height[row] > 40
                assert objects.occluded[row] == 0
            if level >= 0:
                assert height[row] > 25
                assert objects.truncated[row] <= 0.5
