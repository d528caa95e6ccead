"""Small data sets in the fields' own formats, generated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from within.perception3d.data.kitti_labels import KittiObjects
from within.perception3d.data.shapenet_part import CATEGORIES, PARTS

CALIBRATION = """P2: 700 0 600 0 0 700 180 0 0 0 1 0
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0
"""


def small_rooms(folder: Path, areas=(1, 2, 3, 4, 5, 6), *, side=2.5, points=1500) -> Path:
    """Writes one room an area as released: a floor, a ceiling and a table, whose colours tell them apart."""
    generator = np.random.default_rng(0)
    for area in areas:
        where = folder / f"Area_{area}" / "office_1" / "Annotations"
        where.mkdir(parents=True)
        kinds = {"floor_1": (0.0, 50), "ceiling_1": (2.5, 200), "table_1": (0.8, 120), "stairs_1": (1.0, 0)}
        for name, (height, colour) in kinds.items():
            xyz = generator.uniform(0, side, (points, 3)) + np.array([10, 20, 0])
            xyz[:, 2] = height + generator.normal(0, 0.01, points)
            np.savetxt(where / f"{name}.txt", np.hstack([xyz, np.full((points, 3), colour)]), fmt="%.4f")
    return folder


def small_shapes(folder: Path, *, points=120) -> Path:
    """Writes two objects a split of two categories; parts are layers."""
    generator = np.random.default_rng(0)
    folders = {"Lamp": "00000001", "Mug": "00000002"}
    (folder / "train_test_split").mkdir(parents=True)
    (folder / "synsetoffset2category.txt").write_text("".join(f"{a}\t{b}\n" for a, b in folders.items()))
    for split in ("train", "val", "test"):
        names = []
        for category, place in folders.items():
            (folder / place).mkdir(exist_ok=True)
            for number in range(2):
                xyz = generator.uniform(-1, 1, (points, 3))
                parts = PARTS[category]
                label = parts.start + np.floor((xyz[:, 2] + 1) / 2 * len(parts)).clip(max=len(parts) - 1)
                table = np.hstack([xyz, xyz / np.linalg.norm(xyz, axis=1, keepdims=True), label[:, None]])
                np.savetxt(folder / place / f"{split}{number}.txt", table, fmt="%.6f")
                names.append(f"shape_data/{place}/{split}{number}")
        (folder / "train_test_split" / f"shuffled_{split}_file_list.json").write_text(json.dumps(names))
    assert set(folders) <= set(CATEGORIES)
    return folder


def small_kitti(folder: Path, frames=("000000", "000001", "000002")) -> Path:
    """Writes frames with two cars and a pedestrian on a plane, labels and lists."""
    generator = np.random.default_rng(0)
    for name in ("velodyne", "calib", "label_2"):
        (folder / "training" / name).mkdir(parents=True)
    (folder / "ImageSets").mkdir()
    for frame in frames:
        cloud, lines = [generator.uniform([4, -20, -1.8], [40, 20, -1.7], (1500, 3))], []
        for kind, size in (("Car", (3.9, 1.6, 1.5)), ("Car", (4.1, 1.7, 1.6)), ("Pedestrian", (0.8, 0.7, 1.8))):
            x, y = generator.uniform(9, 18), generator.uniform(-4, 4)
            angle = generator.uniform(-3, 3)
            length, width, height = size
            own = generator.uniform(-0.49, 0.49, (300, 3)) * [length, height, width]
            cos, sin = np.cos(angle), np.sin(angle)
            camera = np.stack(
                [cos * own[:, 0] + sin * own[:, 2] - y, own[:, 1] + 1.7 - height / 2, cos * own[:, 2] - sin * own[:, 0]
                 + x], axis=1
            )  # fmt: skip
            cloud.append(camera[:, [2, 0, 1]] * [1, -1, -1])
            pixels = 700 * camera[:, :2] / camera[:, 2:] + [600, 180]
            (left, top), (right, bottom) = pixels.min(0), pixels.max(0)
            lines.append(
                f"{kind} 0 0 0 {left:.2f} {top:.2f} {right:.2f} {bottom:.2f} {height} {width} {length} {-y:.4f} 1.7 "
                f"{x:.4f} {angle:.4f}\n"
            )
        points = np.hstack([np.concatenate(cloud), np.full((sum(map(len, cloud)), 1), 0.3)])
        (folder / "training" / "velodyne" / f"{frame}.bin").write_bytes(points.astype("<f4").tobytes())
        (folder / "training" / "calib" / f"{frame}.txt").write_text(CALIBRATION)
        (folder / "training" / "label_2" / f"{frame}.txt").write_text("".join(lines))
    (folder / "ImageSets" / "train.txt").write_text("\n".join(frames[:-1]))
    (folder / "ImageSets" / "val.txt").write_text(frames[-1])
    return folder


def true_objects(labels: KittiObjects) -> KittiObjects:
    """Returns labels as detections with scores."""
    return KittiObjects(
        labels.names, labels.truncated, labels.occluded, labels.alpha, labels.image_boxes, labels.sizes,
        labels.locations, labels.rotations, np.linspace(1, 0.5, len(labels)),
    )  # fmt: skip
