"""Information files: what real ones hold, and that nothing but data comes out of a pickle."""

from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from within.core.errors import WithinError
from within.perception3d.data.info_files import (
    InfoFile,
    load_restricted,
    read_info_file,
    read_info_list,
    write_info_file,
)
from within.perception3d.data.kitti_calibration import read_calibration
from within.perception3d.data.kitti_infos import CATEGORIES, kitti_calibration, kitti_objects, openpcdet_to_v2
from within.perception3d.data.kitti_labels import read_labels


class Attack:
    """Would make a file when unpickled."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_data_comes_back_as_it_was_in_every_protocol(tmp_path, protocol):
    content = {
        "scalars": [np.float64(1.5), np.int32(-3), np.bool_(True), np.str_("Car")],
        "tables": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "names": np.array(["Car", "Van"]),
        "objects": np.array(["Car", None, 3], dtype=object),
        "empty": np.zeros((0, 7)),
        "plain": (1, None, b"\x00\xff", {1.5, 2}, frozenset([3]), collections.OrderedDict(a=1)),
    }
    path = tmp_path / "infos.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    found = load_restricted(path)
    assert repr(found) == repr(content)
    assert found["tables"].dtype == np.float32


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {target}",), "system"),
        (eval, ("open({target!r}, 'w')",), "eval"),
        (getattr, ("x", "upper"), "getattr"),
        (Path, ("{target}",), "pathlib"),
        (np.load, ("{target}",), "numpy"),
    ],
)
def test_a_pickle_that_asks_for_anything_else_runs_nothing(tmp_path, protocol, function, arguments, name):
    target = tmp_path / "made"
    attack = Attack(function, *(each.format(target=str(target)) for each in arguments))
    path = tmp_path / "infos.pkl"
    path.write_bytes(pickle.dumps({"metainfo": {}, "data_list": [attack]}, protocol))
    with pytest.raises(WithinError, match=rf"asks for \S*{name}.*infos\.pkl.*do not open it"):
        read_info_file(path)
    assert not target.exists()


def test_scalars_of_objects_and_strange_arrays_are_refused(tmp_path):
    path = tmp_path / "infos.pkl"
    multiarray = np.zeros(1).__reduce__()[0].__module__
    code = f"c{multiarray}\nscalar\n(cnumpy\ndtype\n(S'O8'\ntRS'12345678'\ntR."
    path.write_bytes(code.encode())
    with pytest.raises(WithinError, match=r"no whole pickle.*scalar of the type"):
        load_restricted(path)
    path.write_bytes(f"c{multiarray}\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.".encode())
    with pytest.raises(WithinError, match=r"no whole pickle.*array of the type"):
        load_restricted(path)
    path.write_bytes(b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.")
    with pytest.raises(WithinError, match="bytes stored as 'rot13'"):
        load_restricted(path)
    path.write_bytes(b"Pelsewhere\n.")
    with pytest.raises(WithinError, match="refers to something outside"):
        load_restricted(path)


def test_damaged_files_and_wrong_layouts_are_named(tmp_path):
    path = tmp_path / "infos.pkl"
    good = {"metainfo": {"categories": {"car": 0}, "dataset": "x"}, "data_list": [{}]}
    whole = pickle.dumps(good)
    for content in (b"", whole[:-9], b"\x80\x04garbage", b"{}", np.random.default_rng(0).bytes(500)):
        path.write_bytes(content)
        with pytest.raises(WithinError, match="no whole pickle"):
            read_info_file(path)
    for value, words in (
        ([], "OpenPCDet.*read_info_list"),
        (3, "This is a int"),
        ({"data_list": []}, "no metainfo of type dict"),
        ({"metainfo": {}, "data_list": {}}, "no data_list of type list"),
        ({"metainfo": {}, "data_list": []}, "which number each class has"),
        ({"metainfo": {"categories": {"car": "one"}}, "data_list": []}, "which number each class has"),
        (good | {"data_list": [{}, 3]}, r"A frame is a int.*data_list\[1\]"),
    ):
        path.write_bytes(pickle.dumps(value))
        with pytest.raises(WithinError, match=words):
            read_info_file(path)
    path.write_bytes(pickle.dumps(3))
    with pytest.raises(WithinError, match="This is a int, not a list"):
        read_info_list(path)
    with pytest.raises(WithinError, match="could not be read"):
        load_restricted(tmp_path / "none.pkl")


def test_infos_are_written_as_they_were_read(tmp_path):
    infos = InfoFile("kitti", CATEGORIES, ({"sample_idx": 3, "points": np.arange(4.0)},), {"made_by": "hand"})
    write_info_file(tmp_path / "again.pkl", infos)
    found = read_info_file(tmp_path / "again.pkl")
    assert (found.dataset, found.categories) == ("kitti", CATEGORIES)
    assert found.names[2] == "Car"
    assert found.metainfo == {"info_version": "1.1", "made_by": "hand"}
    np.testing.assert_array_equal(found.frames[0]["points"], np.arange(4.0))
    with open(tmp_path / "again.pkl", "rb") as handle:
        assert set(pickle.load(handle)) == {"metainfo", "data_list"}


def test_real_infos_say_what_the_files_say(data):
    """Frames 000000 and 000008 of KITTI, as infos v2 and as label and calibration files."""
    root = data("perception3d")
    for name, number in (("kitti_infos_train", 0), ("kitti_000008", 8)):
        path = root / "mmdet3d_infos" / f"{name}.pkl"
        infos = InfoFile("kitti", CATEGORIES, tuple(load_restricted(path)["data_list"]), {})
        found = kitti_objects(infos, 0)
        truth = read_labels(root / "kitti" / "training" / "label_2" / f"{number:06d}.txt")
        truth = truth.take([row for row, kind in enumerate(truth.names) if kind != "DontCare"])
        assert found.names == truth.names
        np.testing.assert_allclose(found.locations, truth.locations)
        np.testing.assert_allclose(found.sizes, truth.sizes)
        np.testing.assert_allclose(found.rotations, truth.rotations)
        np.testing.assert_allclose(found.image_boxes, truth.image_boxes, atol=1e-2)
        calibration = read_calibration(root / "kitti" / "training" / "calib" / f"{number:06d}.txt")
        np.testing.assert_allclose(kitti_calibration(infos, 0).projection, calibration.projection, rtol=1e-5)
        np.testing.assert_allclose(kitti_calibration(infos, 0).to_camera, calibration.to_camera, rtol=1e-4, atol=1e-6)
    real = read_info_file(root / "mmdet3d_infos" / "kitti_infos_train.pkl")
    assert real.categories == CATEGORIES
    assert len(load_restricted(root / "mmdet3d_infos" / "kitti_dbinfos_train.pkl")) >= 1


def openpcdet_frame() -> dict:
    """Returns a frame as OpenPCDet has it, of a car and a DontCare region."""
    matrix = np.eye(4, dtype=np.float32)
    return {
        "point_cloud": {"num_features": 4, "lidar_idx": "000007"},
        "image": {"image_idx": "000007", "image_shape": np.array([375, 1242], np.int32)},
        "calib": {"P2": matrix * 2, "R0_rect": matrix, "Tr_velo_to_cam": matrix},
        "annos": {
            "name": np.array(["Car", "DontCare"]),
            "truncated": np.array([0.5, -1]),
            "occluded": np.array([1, -1]),
            "alpha": np.array([0.25, -10]),
            "bbox": np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]),
            "dimensions": np.array([[4.0, 1.5, 1.75], [-1, -1, -1]]),
            "location": np.array([[1.0, 2, 30], [-1000, -1000, -1000]]),
            "rotation_y": np.array([0.5, -10]),
            "difficulty": np.array([1, -1]),
            "num_points_in_gt": np.array([77]),
        },
    }


def test_openpcdet_infos_become_infos_v2(tmp_path):
    path = tmp_path / "kitti_infos_val.pkl"
    path.write_bytes(pickle.dumps([openpcdet_frame()]))
    infos = openpcdet_to_v2(read_info_list(path))
    write_info_file(path, infos)
    found = read_info_file(path)
    objects = kitti_objects(found, 0)
    assert objects.names == ("Car",)
    assert objects.sizes.tolist() == [[4.0, 1.5, 1.75]]
    assert objects.locations.tolist() == [[1.0, 2.0, 30.0]]
    assert (objects.truncated[0], objects.occluded[0], objects.alpha[0], objects.rotations[0]) == (0.5, 1, 0.25, 0.5)
    assert kitti_calibration(found, 0).projection[0, 0] == 2
    instances = found.frames[0]["instances"]
    assert [each["num_lidar_pts"] for each in instances] == [77, -1]
    assert instances[1]["bbox_label_3d"] == -1
    assert found.frames[0]["lidar_points"]["lidar_path"] == "000007.bin"


def test_what_is_missing_in_a_frame_is_named():
    frame = openpcdet_frame()
    del frame["annos"]["dimensions"]
    with pytest.raises(WithinError, match=r"no 'dimensions'.*frame 0, annos"):
        openpcdet_to_v2([frame])
    frame = openpcdet_frame()
    frame["calib"]["P2"] = np.eye(3)
    with pytest.raises(WithinError, match=r"P2 has the shape \(3, 3\)"):
        openpcdet_to_v2([frame])
    infos = openpcdet_to_v2([openpcdet_frame()])
    with pytest.raises(WithinError, match="no frame 1 among 1"):
        kitti_objects(infos, 1)
    del infos.frames[0]["instances"][0]["bbox_3d"]
    with pytest.raises(WithinError, match=r"no 'bbox_3d'.*frame 0, instance 0"):
        kitti_objects(infos, 0)
    del infos.frames[0]["images"]["CAM2"]
    with pytest.raises(WithinError, match=r"no 'CAM2'.*frame 0"):
        kitti_calibration(infos, 0)
