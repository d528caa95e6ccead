"""Frustums of KITTI: the points seen through a 2-D box, turned so that the frustum's axis points forward.

Coordinates are the rectified camera's, x to the right, y downwards, z forward. The axis goes through the middle of the
box; turning by its azimuth a = atan2(x, z) makes it the z axis, and headings become ry - a.

Qi, Liu, Wu, Su, Guibas: Frustum PointNets, CVPR 2018; sizes of boxes and numbers of points as there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.core.progress import track
from within.perception3d.data.kitti_calibration import KittiCalibration, read_calibration
from within.perception3d.data.kitti_labels import KittiObjects, read_labels
from within.perception3d.data.point_files import read_points

CLASSES = ("Car", "Pedestrian", "Cyclist")
DETECTED = {1: "Pedestrian", 2: "Car", 3: "Cyclist"}  # numbers of classes in files of 2-D detections
LEAST_HEIGHT, LEAST_POINTS = 25.0, 5  # pixels of a box, points of a detection
NEAREST = 2.0  # metres in front of the lidar from which points count
AXIS_DEPTH = 20.0  # metres at which the middle of a box is taken
PERTURBATION = 0.1  # of a box's sides, for training


@dataclass(frozen=True, eq=False)
class BoxTruth:
    """A labelled box in the camera's frame.

    Attributes:
        centre: middle of the box, in metres.
        size: length, width and height.
        heading: about the y axis, in radians.
        mask: which points of the frustum are inside.
    """

    centre: Float64[np.ndarray, " 3"]
    size: Float64[np.ndarray, " 3"]
    heading: float
    mask: Bool[np.ndarray, " points"]


@dataclass(frozen=True, eq=False)
class Frustum:
    """What is seen through one 2-D box.

    Attributes:
        frame: name of the frame, such as "000008".
        category: name of the class.
        image_box: left, top, right and bottom, in pixels.
        azimuth: of the axis, in radians, positive to the right.
        points: x, y, z in the camera's frame, not turned, and reflectance.
        truth: where there is a label.
        score: of the 2-D detection.
    """

    frame: str
    category: str
    image_box: Float64[np.ndarray, " 4"]
    azimuth: float
    points: Float32[np.ndarray, "points 4"]
    truth: BoxTruth | None = None
    score: float = 1.0


def labelled_frustums(
    root: str | Path,
    frames: Sequence[str],
    *,
    classes: Sequence[str] = CLASSES,
    copies: int = 1,
    seed: int = 0,
) -> list[Frustum]:
    """Returns the frustums of labelled objects; those without a point inside, or of small boxes, are left out.

    Arguments:
        root: folder with velodyne, calib and label_2 (KITTI's `training`).
        frames: names.
        classes: of objects.
        copies: frustums of each object, with the 2-D box moved and scaled by up to a tenth; 1 takes it as it is.
        seed: of the moves.

    Raises:
        WithinError: when a file is missing or damaged, or nothing is found.
    """
    generator = np.random.default_rng(seed)
    found = []
    for name, scan in _scans(root, frames):
        labels = read_labels(Path(root) / "label_2" / f"{name}.txt")
        for row, category in enumerate(labels.names):
            if category not in classes:
                continue
            for _ in range(copies):
                box = labels.image_boxes[row]
                if copies > 1:
                    box = moved_box(box, generator)
                chosen = scan.through(box)
                if labels.image_boxes[row, 3] - labels.image_boxes[row, 1] < LEAST_HEIGHT or not len(chosen):
                    continue
                truth = _truth(labels, row, chosen)
                if truth.mask.any():
                    found.append(Frustum(name, category, box, scan.azimuth(box), chosen, truth))
    if not found:
        raise WithinError(f"{len(frames)} frames hold no object of {', '.join(classes)}", where=str(root))
    return found


def detected_frustums(
    root: str | Path, detections: str | Path, *, frames: Sequence[str] | None = None, classes: Sequence[str] = CLASSES
) -> list[Frustum]:
    """Returns the frustums of 2-D detections: boxes of at least 25 pixels with at least 5 points.

    Arguments:
        root: folder with velodyne and calib.
        detections: a file with a line `image path, class (1 Pedestrian, 2 Car, 3 Cyclist), score, left, top, right,
            bottom` for each box.
        frames: only these; all by default.
        classes: of objects.

    Raises:
        WithinError: when a file is missing or damaged.
    """
    boxes = read_detections(detections)
    names = [name for name in boxes if frames is None or name in set(frames)]
    found = []
    for name, scan in _scans(root, names):
        for category, score, box in boxes[name]:
            if category not in classes or box[3] - box[1] < LEAST_HEIGHT:
                continue
            chosen = scan.through(box)
            if len(chosen) >= LEAST_POINTS:
                found.append(Frustum(name, category, box, scan.azimuth(box), chosen, score=score))
    return found


def read_detections(path: str | Path) -> dict[str, list[tuple[str, float, NDArray[np.float64]]]]:
    """Returns class, score and box of the 2-D detections of each frame; see `detected_frustums`.

    Raises:
        WithinError: when the file cannot be read, or a line is malformed, with its number.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WithinError(f"The detections could not be read ({error})", where=str(path)) from error
    found: dict[str, list[tuple[str, float, NDArray[np.float64]]]] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        try:
            category, score = DETECTED[int(words[1])], float(words[2])
            box = np.array([float(word) for word in words[3:]]).reshape(4)
        except (ValueError, KeyError, IndexError) as error:
            raise WithinError(
                f"A line is no detection ({error!r})", where=f"{path}, line {number}",
                todo="write: image path, class 1 to 3, score, left, top, right, bottom",
            ) from None  # fmt: skip
        if not np.isfinite([score, *box]).all():
            raise WithinError("A detection holds NaN or infinity", where=f"{path}, line {number}")
        found.setdefault(Path(words[0]).stem, []).append((category, score, box))
    return found


def read_frames(path: str | Path) -> list[str]:
    """Returns the names of frames in a list such as KITTI's ImageSets/val.txt.

    Raises:
        WithinError: when the file cannot be read or is empty.
    """
    try:
        found = Path(path).read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise WithinError(f"The list of frames could not be read ({error})", where=str(path)) from error
    if not found:
        raise WithinError("The list names no frames", where=str(path))
    return found


def moved_box(box: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """Returns a box with its middle moved, and its sides scaled, by up to `PERTURBATION` of the sides."""
    middle, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    middle = middle + sides * generator.uniform(-PERTURBATION, PERTURBATION, 2)
    half = sides * generator.uniform(1 - PERTURBATION, 1 + PERTURBATION, 2) / 2
    return np.concatenate([middle - half, middle + half])


def turned(points: NDArray[np.floating], azimuth: float) -> NDArray[np.floating]:
    """Returns points (n, 3 or more) turned about y, so that what lies at an azimuth comes to lie ahead."""
    cos, sin = np.cos(azimuth), np.sin(azimuth)
    found = np.array(points, copy=True)
    found[:, 0] = cos * points[:, 0] - sin * points[:, 2]
    found[:, 2] = sin * points[:, 0] + cos * points[:, 2]
    return found


@dataclass(frozen=True, eq=False)
class _Scan:
    """Points of a frame in the camera's frame, where they are in the image, and the calibration."""

    points: Float32[np.ndarray, "points 4"]
    places: Float64[np.ndarray, "points 2"]
    calibration: KittiCalibration

    def through(self, box: NDArray[np.float64]) -> Float32[np.ndarray, "points 4"]:
        """Returns the points seen through a box."""
        inside = ((self.places >= box[:2]) & (self.places < box[2:])).all(1)
        found: NDArray[np.float32] = self.points[inside]
        return found

    def azimuth(self, box: NDArray[np.float64]) -> float:
        """Returns the azimuth of the middle of a box."""
        projection = self.calibration.projection
        u = (box[0] + box[2]) / 2
        x = ((u - projection[0, 2]) * AXIS_DEPTH - projection[0, 3]) / projection[0, 0]
        return float(np.arctan2(x, AXIS_DEPTH))


def _scans(root: str | Path, frames: Sequence[str]) -> Iterator[tuple[str, _Scan]]:
    for name in track(frames, "Reading frames"):
        points = read_points(Path(root) / "velodyne" / f"{name}.bin")
        calibration = read_calibration(Path(root) / "calib" / f"{name}.txt")
        points = points[points[:, 0] > NEAREST]
        camera = calibration.camera_points(points)
        places, depths = calibration.image_points(camera)
        ahead = depths > 0
        four = np.concatenate([camera, points[:, 3:4]], axis=1)[ahead].astype(np.float32)
        yield name, _Scan(four, places[ahead], calibration)


def _truth(labels: KittiObjects, row: int, points: NDArray[np.float32]) -> BoxTruth:
    length, height, width = labels.sizes[row]
    centre = labels.locations[row] - np.array([0, height / 2, 0])
    heading = float(labels.rotations[row])
    own = turned(points[:, :3].astype(np.float64) - centre, heading)  # along the box's own axes
    mask = (np.abs(own) <= np.array([length, height, width]) / 2).all(1)
    return BoxTruth(centre, np.array([length, width, height]), heading, mask)
