"""Synthetic frames as a folder in KITTI's format, which every reader of KITTI's object benchmark takes.

    training/{velodyne, calib, label_2, image_2}/NNNNNN.*       ImageSets/{train, val, trainval}.txt

An image shows the depth of the points, nearer ones brighter. Every fifth frame is for validation.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from within.core import parallel
from within.core.errors import WithinError
from within.core.files import atomic_write, read_json, write_json
from within.perception3d.data.kitti_calibration import KittiCalibration
from within.perception3d.data.kitti_labels import write_labels
from within.perception3d.synthetic_lidar import SyntheticFrame, synthetic_frame

VALIDATION_EVERY = 5
BASELINE = 0.54  # metres between the left and the right cameras
SERIES = "synthetic.json"
GENERATOR = 1  # raise it when the same seed gives other frames
FOLDERS = {"velodyne": "bin", "calib": "txt", "label_2": "txt", "image_2": "png"}


def write_scenes(directory: str | Path, count: int, seed: int = 0, *, workers: int = 1) -> None:
    """Writes `count` frames; those that are there already are kept, so that it can be stopped and called again.

    Arguments:
        directory: takes `training` and `ImageSets`.
        count: frames in all, numbered from 0.
        seed: of the series; frame n is the same whatever the count.
        workers: processes.

    Raises:
        WithinError: when the directory holds another series, or cannot be written.
    """
    if count < 1:
        raise WithinError(f"There must be at least one frame, not {count}", where="count")
    root, series = Path(directory), {"seed": seed, "generator": GENERATOR}
    if (root / SERIES).is_file():
        there = read_json(root / SERIES)
        if there != series:
            raise WithinError(
                f"The folder holds another series, {there}, not {series}",
                where=str(root / SERIES),
                todo="choose another folder, or remove this one yourself",
            )
    elif (root / "training").exists():
        raise WithinError(
            "The folder holds frames that are not synthetic", where=str(root), todo="choose another folder"
        )
    else:
        write_json(root / SERIES, series)
    missing = [number for number in range(count) if not all(path.is_file() for path in _paths(root, number).values())]
    parallel.map(functools.partial(_write_frame, root, seed), missing, workers=workers, description="Synthetic frames")
    names = [f"{number:06d}" for number in range(count)]
    parts = {
        "train": [name for name in names if int(name) % VALIDATION_EVERY != VALIDATION_EVERY - 1],
        "val": names[VALIDATION_EVERY - 1 :: VALIDATION_EVERY],
        "trainval": names,
    }
    for part, chosen in parts.items():
        with atomic_write(root / "ImageSets" / f"{part}.txt") as temporary:
            temporary.write_text("".join(f"{name}\n" for name in chosen))


def _paths(root: Path, number: int) -> dict[str, Path]:
    return {folder: root / "training" / folder / f"{number:06d}.{end}" for folder, end in FOLDERS.items()}


def _write_frame(root: Path, seed: int, number: int) -> None:
    frame, paths = synthetic_frame(seed, number), _paths(root, number)
    with atomic_write(paths["velodyne"]) as temporary:
        temporary.write_bytes(frame.points.astype("<f4").tobytes())
    with atomic_write(paths["calib"]) as temporary:
        temporary.write_text(_calibration_text(frame.calibration))
    with atomic_write(paths["image_2"]) as temporary:
        Image.fromarray(depth_image(frame)).save(temporary, format="PNG")
    write_labels(paths["label_2"], frame.objects)


def _calibration_text(calibration: KittiCalibration) -> str:
    """Returns the lines of a calibration file; the other cameras stand where KITTI's do, side by side."""
    focal = calibration.projection[0, 0]
    cameras = {}
    for number, shift in enumerate((-0.06, -0.06 - BASELINE, 0.0, -BASELINE)):
        cameras[f"P{number}"] = calibration.projection + np.array([[0, 0, 0, focal * shift], [0] * 4, [0] * 4])
    unit = np.array([[1.0, 0, 0, -0.8], [0, 1, 0, 0.3], [0, 0, 1, -0.8]])
    mounts = {
        "R0_rect": calibration.rectification,
        "Tr_velo_to_cam": calibration.to_camera,
        "Tr_imu_to_velo": unit,
    }
    return "".join(
        f"{name}: " + " ".join(f"{value:.12e}" for value in matrix.ravel()) + "\n"
        for name, matrix in (cameras | mounts).items()
    )


def depth_image(frame: SyntheticFrame) -> NDArray[np.uint8]:
    """Returns a grey picture (height, width) of the points: a spot for each, brighter and larger the nearer it is."""
    height, width = frame.image_size
    seen = frame.points[frame.calibration.in_image(frame.points, frame.image_size)]
    places, depths = frame.calibration.image_points(frame.calibration.camera_points(seen))
    order = np.argsort(-depths)
    columns, rows = places[order].astype(np.int64).T
    values = (40 + 215 * np.exp(-depths[order] / 25)).astype(np.uint8)
    image = np.zeros((height, width), np.uint8)
    for down, right in ((0, 1), (1, 0), (1, 1), (0, 0)):
        image[np.minimum(rows + down, height - 1), np.minimum(columns + right, width - 1)] = values
    return image
