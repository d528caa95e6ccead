"""S3DIS, ShapeNet's parts and KITTI's frustums: what is read is what was written, and faults are named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.perception3d.point_data import small_kitti, small_rooms, small_shapes, true_objects

from within.core.errors import WithinError
from within.perception3d.data.frustum import detected_frustums, labelled_frustums, read_frames, turned
from within.perception3d.data.kitti_labels import read_labels
from within.perception3d.data.s3dis import CLASSES, POINTNET_ORDER, areas_of, find_rooms, read_room
from within.perception3d.data.s3dis_blocks import MOST_POINTS, SIZE, cut, prepare_rooms, read_windows
from within.perception3d.data.s3dis_rooms import H5Rooms, open_rooms
from within.perception3d.data.shapenet_part import CATEGORIES, PARTS, ShapeNetParts, read_shape
from within.perception3d.metrics.box_accuracy import box_accuracy
from within.perception3d.metrics.kitti_ap import average_precision
from within.perception3d.pvcnn.frustum_items import FrustumItems, camera_objects, frustum_inputs
from within.perception3d.pvcnn.frustum_loss import box_corners


def test_rooms_of_all_forms_are_the_same(tmp_path):
    raw = small_rooms(tmp_path / "raw", (1,))
    room = read_room(raw / "Area_1" / "office_1")
    assert {CLASSES[label] for label in np.unique(room.labels)} == {"floor", "ceiling", "table"}  # no stairs
    assert np.allclose(room.points[:, :3].min(0), 0)
    (prepared,) = prepare_rooms(raw, tmp_path / "prepared", areas=(1,))
    again = read_room(prepared)
    assert np.array_equal(again.points, room.points)
    assert np.array_equal(again.labels, room.labels)
    table = np.hstack([room.points, np.array([POINTNET_ORDER.index(CLASSES[k]) for k in room.labels])[:, None]])
    np.save(tmp_path / "Area_1_office_1.npy", table)
    assert find_rooms(tmp_path, (1,)) == [tmp_path / "Area_1_office_1.npy"]
    third = read_room(tmp_path / "Area_1_office_1.npy")
    assert np.array_equal(third.labels, room.labels)


def test_windows_cover_the_room_twice_and_stay_in_their_block():
    points = np.random.default_rng(0).uniform(0, [4, 3, 2.6], (20_000, 3)).astype(np.float32)
    windows = cut(points)
    assert np.array_equal(np.unique(windows.rows), np.arange(len(points)))
    counts = np.bincount(windows.rows, minlength=len(points))
    assert counts.min() >= 2
    for number in range(len(windows)):
        inside = points[windows[number], :2]
        assert len(inside) <= MOST_POINTS
        assert (inside.min(0) >= windows.low[number]).all()
        assert (inside.max(0) - windows.low[number] <= 2 * SIZE).all()  # one small neighbour may have joined
    assert np.array_equal(cut(points).rows, windows.rows)


def test_features_of_a_window(tmp_path):
    """x and y about the block, z from the floor, colours in 0..1, places in the room in 0..1."""
    rooms = open_rooms(small_rooms(tmp_path, (5,)), areas_of("test"), points=512)
    features, labels = rooms[0]
    assert features.shape == (9, 512)
    assert labels.shape == (512,)
    assert float(features[:2].abs().max()) <= SIZE / 2 + 0.01
    assert float(features[2].min()) >= 0
    assert float(features[3:].min()) >= 0
    assert float(features[3:].max()) <= 1
    assert set((255 * features[3]).round().int().unique().tolist()) <= {50, 120, 200}
    seen = np.zeros(len(rooms.labels(0)), bool)
    for window in rooms.windows(0):
        seen[window.rows] = True
    assert seen.all()


def test_prepared_windows_are_those_cut_in_memory(tmp_path):
    raw = small_rooms(tmp_path / "raw", (5,))
    (folder,) = prepare_rooms(raw, tmp_path / "prepared", areas=(5,))
    stored = read_windows(folder)
    assert stored is not None
    assert np.array_equal(stored.rows, cut(read_room(raw / "Area_5" / "office_1").points).rows)
    (folder / "windows.npz").write_bytes(b"PK")
    with pytest.raises(WithinError, match="windows could not be read"):
        read_windows(folder)


def test_hdf5_files_of_the_field(tmp_path):
    h5py = pytest.importorskip("h5py")
    folder = tmp_path / "Area_5" / "office_1"
    folder.mkdir(parents=True)
    data = np.random.rand(3, 100, 9)
    rows = np.tile(np.arange(100), (3, 1))
    for name in ("zero_0", "half_0"):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["data"], file["data_num"], file["indices_split_to_full"] = data, [100, 60, 30], rows
            file["label_seg"] = rows % 13
    np.save(folder / "label.npy", np.arange(100) % 13)
    rooms = open_rooms(tmp_path, (5,), points=40)
    assert isinstance(rooms, H5Rooms)
    assert len(rooms) == 6
    features, labels = rooms[2]
    assert features.shape == (9, 40)
    assert int(labels.max()) <= 12
    assert [len(window.rows) for window in rooms.windows(0)] == [100, 60, 30] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [("1 2 3 4 5\n", "should have 6 columns"), ("1 2 3 4 5 x\n", "could not be read"), ("nan 2 3 4 5 6\n", "NaN")],
)
def test_faults_of_rooms_are_named(tmp_path, content, message):
    folder = small_rooms(tmp_path, (1,)) / "Area_1" / "office_1"
    (folder / "Annotations" / "chair_1.txt").write_text(content)
    with pytest.raises(WithinError, match=message) as error:
        read_room(folder)
    assert "chair_1" in str(error.value)


def test_missing_areas_and_splits_are_named(tmp_path):
    with pytest.raises(WithinError, match="Area 2 of S3DIS has no rooms"):
        find_rooms(tmp_path, (2,))
    with pytest.raises(WithinError, match="no split"):
        areas_of("val")
    assert areas_of("train", 5) == (1, 2, 3, 4, 6)


def test_objects_lie_in_the_unit_ball_and_carry_their_category(tmp_path):
    folder = small_shapes(tmp_path)
    assert (len(ShapeNetParts(folder)), len(ShapeNetParts(folder, "test"))) == (8, 4)
    shapes = ShapeNetParts(folder, "test", points=64, jitter=True)
    features, labels = shapes[3]
    assert features.shape == (22, 64)
    mug = CATEGORIES.index("Mug")
    assert features[6:].sum(0).eq(1).all()
    assert features[6 + mug].eq(1).all()
    assert set(labels.tolist()) <= set(PARTS["Mug"])
    assert np.linalg.norm(shapes.shape(0).points[:, :3], axis=1).max() == pytest.approx(1, abs=1e-6)
    assert ShapeNetParts(folder, normals=False)[0][0].shape == (19, 2048)


def test_faults_of_objects_are_named(tmp_path):
    folder = small_shapes(tmp_path)
    path = folder / "00000002" / "test0.txt"
    with pytest.raises(WithinError, match="outside 24 to 27"):
        read_shape(path, CATEGORIES.index("Lamp"))
    (folder / "synsetoffset2category.txt").write_text("Dragon 1\n")
    with pytest.raises(WithinError, match="no category"):
        ShapeNetParts(folder)
    with pytest.raises(WithinError, match="no split"):
        ShapeNetParts(folder, "all")


def test_frustums_of_real_frames_look_at_their_objects(data):
    """The axis goes through the object, and the labelled points are those inside its corners."""
    root = data("perception3d") / "kitti" / "training"
    found = labelled_frustums(root, ["000000", "000002", "000008"])
    assert [each.category for each in found] == ["Pedestrian", *["Car"] * 7]
    for each in found:
        centre = turned(each.truth.centre[None], each.azimuth)[0]
        assert abs(centre[0]) < 0.15 * centre[2]
        box = (torch.tensor(value, dtype=torch.float64)[None] for value in (each.truth.centre, each.truth.size))
        corners = box_corners(*box, torch.tensor([each.truth.heading], dtype=torch.float64))[0].numpy()
        inside = np.ones(len(each.points), bool)
        for start, end in ((0, 1), (0, 3), (0, 4)):
            axis = corners[end] - corners[start]
            along = (each.points[:, :3] - corners[start]) @ axis / (axis @ axis)
            inside &= (along >= 0) & (along <= 1)
        assert np.array_equal(inside, each.truth.mask)
    assert sum(each.truth.mask.sum() for each in found if each.frame == "000008") > 5000


def test_detections_of_the_field(data):
    folder = data("perception3d") / "kitti"
    frames = ["000001", "000008"]
    boxes = folder / "rgb_detections" / "rgb_detection_val.txt"
    found = detected_frustums(folder / "training", boxes, frames=frames)
    assert {each.frame for each in found} <= set(frames)
    assert all(each.image_box[3] - each.image_box[1] >= 25 and len(each.points) >= 5 for each in found)
    assert len(read_frames(folder / "ImageSets" / "val.txt")) == 3769


def test_true_boxes_come_back_as_labels(tmp_path):
    """To the frustum's frame and back."""
    root = small_kitti(tmp_path) / "training"
    frustums = labelled_frustums(root, ["000000"])
    boxes, true = [], []
    for each in frustums:
        centre = turned(each.truth.centre[None], each.azimuth)[0]
        boxes.append([*centre, *each.truth.size, each.truth.heading - each.azimuth])
        true.append(boxes[-1])
    objects = camera_objects(frustums, torch.tensor(np.array(boxes)))
    labels = read_labels(root / "label_2" / "000000.txt")
    assert np.allclose(objects.locations, labels.locations)
    assert np.allclose(np.cos(objects.rotations - labels.rotations), 1)
    found = average_precision([labels], [objects])
    exact = average_precision([labels], [true_objects(labels)])
    assert found["Car", "3d", "easy"] == exact["Car", "3d", "easy"]
    assert found["Car", "3d", "easy"].r11 > 0
    assert box_accuracy(np.array(boxes), np.array(true), list(labels.names)).mean_overlap == pytest.approx(1)


def test_items_and_inputs_of_frustums(tmp_path):
    root = small_kitti(tmp_path) / "training"
    frustums = labelled_frustums(root, ["000000", "000001"], copies=2)
    items = FrustumItems(frustums, points=100, augment=True)
    (features, category), target = items[0]
    assert features.shape == (4, 100)
    assert category.tolist() == [1, 0, 0]
    assert target.mask.shape == (100,)
    plain = FrustumItems(frustums, points=400)
    (features, _), target = plain[0]
    inside = features[:3, target.mask.bool()]
    assert float((inside - target.centre[:, None]).norm(dim=0).max()) <= float(target.size.norm() / 2) + 1e-4
    one, two = frustum_inputs(frustums, points=50), frustum_inputs(frustums, points=50)
    assert torch.equal(one[0], two[0])
    with pytest.raises(WithinError, match="cannot be trained on"):
        FrustumItems(frustums, classes=("Pedestrian",))


@pytest.mark.parametrize(
    "line", ["a.png 4 0.5 1 2 3 4", "a.png 1 0.5 1 2 3", "a.png 1 x 1 2 3 4", "a.png 1 nan 1 2 3 4"]
)
def test_faults_of_detections_are_named(tmp_path, line):
    path = tmp_path / "boxes.txt"
    path.write_text("b.png 1 0.5 1 2 3 4\n" + line)
    with pytest.raises(WithinError, match="line 2"):
        detected_frustums(tmp_path, path)
