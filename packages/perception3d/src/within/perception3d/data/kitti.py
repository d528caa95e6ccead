"""KITTI's object benchmark as a folder: training/{velodyne, calib, label_2, image_2} and ImageSets.

Only points that the left colour camera sees are kept, as only its objects are labelled; the size of the image is read
from its file. Without an image the published extent of most of them is taken, 375 x 1242.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from within.core.errors import WithinError
from within.perception3d.boxes import around, clipped, observation_angles, wrapped
from within.perception3d.data.kitti_calibration import KittiCalibration, read_calibration
from within.perception3d.data.kitti_labels import KittiObjects, read_labels
from within.perception3d.data.point_files import read_points
from within.perception3d.data.scene import Scene
from within.perception3d.detections import Detections

USUAL_SIZE = (375, 1242)
CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-1.0, 0.0) for z in (-0.5, 0.5)])


@dataclass(frozen=True)
class KittiFrames:
    """Some frames of a folder.

    Attributes:
        folder: that holds velodyne, calib and label_2.
        names: of the frames.
        in_image: keep only points that the camera sees.
    """

    folder: Path
    names: tuple[str, ...]
    in_image: bool = True

    def __len__(self) -> int:
        return len(self.names)

    def scene(self, index: int) -> Scene:
        """Returns a frame; its objects are all but DontCare.

        Raises:
            WithinError: when one of its files is missing or damaged.
        """
        name, calibration, objects = self.names[index], self.calibration(index), self.labels(index)
        points = read_points(self.folder / "velodyne" / f"{name}.bin")
        if self.in_image:
            points = points[calibration.in_image(points, self.image_size(index))]
        known = objects.take([row for row, kind in enumerate(objects.names) if kind != "DontCare"])
        boxes = calibration.lidar_boxes(known.locations, known.sizes, known.rotations)
        return Scene(name, points, boxes.astype(np.float32), known.names)

    def labels(self, index: int) -> KittiObjects:
        """Returns the objects of a frame's label file."""
        return read_labels(self.folder / "label_2" / f"{self.names[index]}.txt")

    def calibration(self, index: int) -> KittiCalibration:
        """Returns the matrices of a frame."""
        return read_calibration(self.folder / "calib" / f"{self.names[index]}.txt")

    def image_size(self, index: int) -> tuple[int, int]:
        """Returns height and width of a frame's image.

        Raises:
            WithinError: when the image cannot be read.
        """
        path = self.folder / "image_2" / f"{self.names[index]}.png"
        if not path.is_file():
            return USUAL_SIZE
        try:
            with Image.open(path) as image:
                return image.height, image.width
        except OSError as error:
            raise WithinError(f"The image could not be read ({error})", where=str(path)) from error

    def take(self, rows: Sequence[int]) -> KittiFrames:
        """Returns some of the frames."""
        return KittiFrames(self.folder, tuple(self.names[row] for row in rows), self.in_image)


def find_kitti(root: str | Path, split: str | None = None, *, in_image: bool = True) -> KittiFrames:
    """Returns the frames of a folder.

    Arguments:
        root: that holds `training` and perhaps `ImageSets`.
        split: "train", "val" or "trainval" as ImageSets lists them, all of which must be there. None or "all" takes
            every frame with points.
        in_image: keep only points that the camera sees.

    Raises:
        WithinError: when there is no such folder, list or frame.
    """
    folder = Path(root) / "training"
    if not (folder / "velodyne").is_dir():
        raise WithinError(
            "There are no KITTI frames", where=str(folder / "velodyne"), todo="give the folder that holds training/"
        )
    there = sorted(path.stem for path in (folder / "velodyne").glob("*.bin"))
    if split not in (None, "all"):
        path = Path(root) / "ImageSets" / f"{split}.txt"
        if not path.is_file():
            raise WithinError(f"There is no list of the part {split!r}", where=str(path), todo="put ImageSets there")
        listed = path.read_text().split()
        missing = sorted(set(listed) - set(there))
        if missing:
            raise WithinError(
                f"{len(missing)} of {len(listed)} frames of {split!r} have no points, {missing[0]} for instance",
                where=str(folder / "velodyne"),
                todo="download the rest, or list only the frames that are there",
            )
        there = listed
    if not there:
        raise WithinError("There is no frame", where=str(folder / "velodyne"))
    return KittiFrames(folder, tuple(there), in_image)


def kitti_detections(
    found: Detections, classes: Sequence[str], calibration: KittiCalibration, size: tuple[int, int]
) -> KittiObjects:
    """Returns detections as KITTI wants them: with boxes in the image, clipped to it; those outside of it are left out.

    Arguments:
        found: in the lidar's frame.
        classes: names by label.
        calibration: of the frame.
        size: height and width of the image.
    """
    locations, sizes, rotations = calibration.camera_boxes(found.boxes[:, :7])
    boxes, seen = image_boxes(locations, sizes, rotations, calibration, size)
    unknown = np.full(len(found), -1.0)
    objects = KittiObjects(
        tuple(classes[label] for label in found.labels), unknown, unknown, observation_angles(rotations, locations),
        boxes, sizes, locations, wrapped(rotations), found.scores.astype(np.float64),
    )  # fmt: skip
    return objects.take(np.flatnonzero(seen))


def image_boxes(
    locations: NDArray[np.float64],
    sizes: NDArray[np.float64],
    rotations: NDArray[np.float64],
    calibration: KittiCalibration,
    size: tuple[int, int],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns boxes around projected corners, clipped to the image, and which of them have any area there.

    Arguments:
        locations, sizes, rotations: of boxes in the camera's frame; sizes are length, height and width.
        calibration: of the frame.
        size: height and width of the image.
    """
    found = np.zeros((len(locations), 4))
    seen = np.zeros(len(locations), bool)
    for row, (location, extent, angle) in enumerate(zip(locations, sizes, rotations, strict=True)):
        corners = CORNERS * extent
        cos, sin = np.cos(angle), np.sin(angle)
        turned = np.stack(
            [cos * corners[:, 0] + sin * corners[:, 2], corners[:, 1], -sin * corners[:, 0] + cos * corners[:, 2]], 1
        )
        places, depths = calibration.image_points(turned + location)
        if (depths <= 0).all():
            continue
        found[row] = clipped(around(places[None, depths > 0]), size)[0]
        seen[row] = found[row, 2] > found[row, 0] and found[row, 3] > found[row, 1]
    return found, seen
