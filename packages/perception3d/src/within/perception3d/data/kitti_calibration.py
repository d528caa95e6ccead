"""Calibration files of KITTI's object benchmark, and the way between the lidar's and the camera's frame.

    image point   u ~ P2 R0_rect Tr_velo_to_cam p            p in the lidar's frame (x forward, y left, z up)

A box in the lidar's frame is (x, y, z, length, width, height, yaw) with z at its middle; in the camera's frame z points
forward, y down, the location is that of the bottom, and ry = -yaw - pi / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from within.core.errors import WithinError

ENTRIES = {"P2": (3, 4), "R0_rect": (3, 3), "Tr_velo_to_cam": (3, 4)}
NAMES = {"R_rect": "R0_rect", "Tr_velo_cam": "Tr_velo_to_cam"}  # in the tracking benchmark


@dataclass(frozen=True, eq=False)
class KittiCalibration:
    """Matrices of one frame.

    Attributes:
        projection: P2, of the left colour camera.
        rectification: R0_rect.
        to_camera: Tr_velo_to_cam.
    """

    projection: Float64[np.ndarray, "3 4"]
    rectification: Float64[np.ndarray, "3 3"]
    to_camera: Float64[np.ndarray, "3 4"]

    def camera_points(self, points: NDArray[np.floating]) -> Float64[np.ndarray, "points 3"]:
        """Returns points of the lidar in the rectified camera's frame."""
        inside = points[:, :3].astype(np.float64) @ self.to_camera[:, :3].T + self.to_camera[:, 3]
        found: NDArray[np.float64] = inside @ self.rectification.T
        return found

    def lidar_points(self, points: NDArray[np.floating]) -> Float64[np.ndarray, "points 3"]:
        """Returns points of the camera's frame in that of the lidar."""
        before = points[:, :3].astype(np.float64) @ np.linalg.inv(self.rectification).T - self.to_camera[:, 3]
        found: NDArray[np.float64] = before @ np.linalg.inv(self.to_camera[:, :3]).T
        return found

    def image_points(self, points: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns columns and rows (points, 2) and depths of points of the camera's frame."""
        found = points[:, :3].astype(np.float64) @ self.projection[:, :3].T + self.projection[:, 3]
        depths = found[:, 2]
        return found[:, :2] / np.where(np.abs(depths) > 1e-9, depths, 1e-9)[:, None], depths - self.projection[2, 3]

    def in_image(self, points: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.bool_]:
        """Returns which points of the lidar the camera sees.

        Arguments:
            points: in the lidar's frame.
            size: height and width of the image.
        """
        places, depths = self.image_points(self.camera_points(points))
        height, width = size
        inside = (places >= 0).all(1) & (places[:, 0] < width) & (places[:, 1] < height) & (depths >= 0)
        found: NDArray[np.bool_] = inside
        return found

    def lidar_boxes(
        self, locations: NDArray[np.float64], sizes: NDArray[np.float64], rotations: NDArray[np.float64]
    ) -> Float64[np.ndarray, "boxes 7"]:
        """Returns boxes in the lidar's frame.

        Arguments:
            locations: of the bottoms, in the camera's frame.
            sizes: length, height and width.
            rotations: about the camera's y axis.
        """
        found = np.zeros((len(locations), 7))
        found[:, :3] = self.lidar_points(locations)
        found[:, 2] += sizes[:, 1] / 2
        found[:, 3:6] = sizes[:, [0, 2, 1]]
        found[:, 6] = -(rotations + np.pi / 2)
        return found

    def camera_boxes(
        self, boxes: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Returns locations, sizes and rotations of boxes in the lidar's frame; see `lidar_boxes`."""
        bottoms = boxes[:, :3].astype(np.float64)
        bottoms[:, 2] -= boxes[:, 5] / 2
        sizes = boxes[:, [3, 5, 4]].astype(np.float64)
        return self.camera_points(bottoms), sizes, -boxes[:, 6].astype(np.float64) - np.pi / 2


def read_calibration(path: str | Path) -> KittiCalibration:
    """Returns the matrices of a calibration file.

    Raises:
        WithinError: when the file is missing, a matrix is not there, has another size, or holds what is no number.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WithinError(
            f"The calibration could not be read ({error})", where=str(path), todo="every frame needs its file in calib/"
        ) from error
    found = {}
    for number, line in enumerate(lines, start=1):
        name, _, rest = line.replace(":", " ", 1).strip().partition(" ")
        name = NAMES.get(name, name)
        if name not in ENTRIES:
            continue
        try:
            values = np.array([float(word) for word in rest.split()])
            found[name] = values.reshape(ENTRIES[name])
        except ValueError as error:
            raise WithinError(
                f"{name} is not {ENTRIES[name][0]} x {ENTRIES[name][1]} numbers ({error})",
                where=f"{path}, line {number}",
            ) from None
        if not np.isfinite(found[name]).all():
            raise WithinError(f"{name} holds NaN or infinity", where=f"{path}, line {number}")
    missing = [name for name in ENTRIES if name not in found]
    if missing:
        raise WithinError(f"The calibration has no {missing[0]}", where=str(path))
    return KittiCalibration(found["P2"], found["R0_rect"], found["Tr_velo_to_cam"])
