"""nuScenes through MMDetection3D's infos v2: scans gathered over time, boxes, velocities and poses.

Caesar et al.: nuScenes, CVPR 2020. A file of `LIDAR_TOP` holds x, y, z, intensity (0 to 255) and ring as float32.
Earlier scans ("sweeps") are brought into the frame of the annotated one:

    p_key = (ego2global_key lidar2ego_key)^-1 ego2global_sweep lidar2ego_sweep p_sweep

or by the inverse of `lidar2sensor`, which newer infos give instead. Ring is replaced by the time since the scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.perception3d.data.checked import entry, table
from within.perception3d.data.info_files import InfoFile, read_info_file
from within.perception3d.data.lidar_objects import LidarObjects, lidar_objects
from within.perception3d.data.point_files import NUSCENES_COLUMNS, read_points
from within.perception3d.data.scene import Scene

CLASSES = (
    "car", "truck", "trailer", "bus", "construction_vehicle", "bicycle", "motorcycle", "pedestrian", "traffic_cone",
    "barrier",
)  # fmt: skip
SWEEPS = 10
VEHICLE = 1.0  # points of a sweep this near along x and y are the vehicle's own
FOLDERS = ("", "samples/LIDAR_TOP", "sweeps/LIDAR_TOP")


@dataclass(frozen=True)
class NuscenesFrames:
    """The frames of an infos file.

    Attributes:
        folder: that holds `samples` and `sweeps`.
        infos: of the frames.
        sweeps: scans of a cloud, the annotated one among them; fewer where fewer are listed.
    """

    folder: Path
    infos: InfoFile
    sweeps: int = SWEEPS

    def __len__(self) -> int:
        return len(self.infos.frames)

    def scene(self, index: int) -> Scene:
        """Returns a frame with the boxes that hold points; unknown velocities are 0."""
        objects = self.objects(index)
        objects = objects.take(objects.point_counts != 0)
        boxes = np.concatenate([objects.boxes, np.nan_to_num(objects.velocities)], axis=1)
        return Scene(self.token(index), self.points(index), boxes.astype(np.float32), objects.names)

    def take(self, rows: Sequence[int]) -> NuscenesFrames:
        """Returns some of the frames."""
        chosen = tuple(self.infos.frames[row] for row in rows)
        return replace(self, infos=replace(self.infos, frames=chosen))

    def token(self, index: int) -> str:
        """Returns the name of a frame."""
        return str(entry(self._frame(index), "token", f"frame {index}"))

    def points(self, index: int) -> Float32[np.ndarray, "points 5"]:
        """Returns x, y, z, intensity and age in seconds of the points of a frame and of the sweeps before it.

        Raises:
            WithinError: when a file is missing or damaged, or the infos lack a path, a time or a pose.
        """
        frame, where = self._frame(index), f"frame {index}"
        key = entry(frame, "lidar_points", where)
        own = read_points(self._path(entry(key, "lidar_path", where)), NUSCENES_COLUMNS)
        own[:, 4] = 0
        clouds = [own]
        for number, sweep in enumerate(frame.get("lidar_sweeps", ())[: self.sweeps - 1]):
            place = f"{where}, sweep {number}"
            listed = entry(sweep, "lidar_points", place)
            cloud = read_points(self._path(entry(listed, "lidar_path", place)), NUSCENES_COLUMNS)
            cloud = cloud[(np.abs(cloud[:, :2]) >= VEHICLE).any(1)]
            move = self._to_key(frame, sweep, where, place)
            cloud[:, :3] = cloud[:, :3].astype(np.float64) @ move[:3, :3].T + move[:3, 3]
            cloud[:, 4] = float(entry(frame, "timestamp", where)) - float(entry(sweep, "timestamp", place))
            clouds.append(cloud)
        return np.concatenate(clouds)

    def objects(self, index: int) -> LidarObjects:
        """Returns all objects of a frame in its lidar's frame; their points are those of lidar and radar.

        The infos have no attribute of an object as such, so that all of them are "".

        Raises:
            WithinError: when the infos lack something of an object, or a class has no name.
        """
        names, found = self.infos.names, []
        for number, instance in enumerate(entry(self._frame(index), "instances", f"frame {index}")):
            where = f"frame {index}, instance {number}"
            kind = int(entry(instance, "bbox_label_3d", where))
            if kind < 0:
                continue
            if kind not in names:
                raise WithinError(f"The class {kind} has no name", where=where, todo="check metainfo, categories")
            points = int(entry(instance, "num_lidar_pts", where)) + int(instance.get("num_radar_pts", 0))
            box = table(entry(instance, "bbox_3d", where), (7,), "bbox_3d", where)
            speed = table(instance.get("velocity", (np.nan, np.nan)), (2,), "velocity", where)
            found.append((names[kind], box, speed, points))
        return lidar_objects(
            [each[0] for each in found],
            [each[1] for each in found],
            velocities=[each[2] for each in found],
            point_counts=[each[3] for each in found],
            where=f"frame {index}",
        )

    def to_global(self, index: int) -> Float64[np.ndarray, "4 4"]:
        """Returns the way from a frame's lidar to the map, in which the published figures are made."""
        frame = self._frame(index)
        return _pose(frame, entry(frame, "lidar_points", f"frame {index}"), f"frame {index}")

    def vehicle(self, index: int) -> Float64[np.ndarray, " axes"]:
        """Returns where the vehicle's own origin lies on the map."""
        found: NDArray[np.float64] = _matrix(self._frame(index), "ego2global", f"frame {index}")[:3, 3]
        return found

    def _frame(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise WithinError(f"There is no frame {index} among {len(self)}")
        return self.infos.frames[index]

    def _path(self, listed: str) -> Path:
        places = [self.folder / str(listed), *(self.folder / folder / Path(str(listed)).name for folder in FOLDERS)]
        for path in places:
            if path.is_file():
                return path
        raise WithinError(
            "The points of a frame or sweep are not there",
            where=str(places[0]),
            todo=f"give the folder that holds them; looked in {', '.join(str(path.parent) for path in places[1:])} too",
        )

    def _to_key(self, frame: Any, sweep: Any, where: str, place: str) -> NDArray[np.float64]:
        points = sweep["lidar_points"]
        if points.get("lidar2sensor") is not None:
            return np.linalg.inv(_matrix(points, "lidar2sensor", place)).astype(np.float64)
        key = _pose(frame, frame["lidar_points"], where)
        return np.linalg.solve(key, _pose(sweep, points, place)).astype(np.float64)


def _pose(frame: Any, points: Any, where: str) -> NDArray[np.float64]:
    found: NDArray[np.float64] = _matrix(frame, "ego2global", where) @ _matrix(points, "lidar2ego", where)
    return found


def _matrix(mapping: Any, key: str, where: str) -> NDArray[np.float64]:
    found = table(entry(mapping, key, where), (4, 4), key, where)
    if not np.isfinite(found).all() or abs(np.linalg.det(found[:3, :3]) - 1) > 1e-2:
        raise WithinError(f"{key} is no turn and shift", where=where, todo="make the infos again")
    return found


def find_nuscenes(root: str | Path, infos: str | Path, *, sweeps: int = SWEEPS) -> NuscenesFrames:
    """Returns the frames of an infos file.

    Arguments:
        root: the folder that holds `samples` and `sweeps`.
        infos: such as nuscenes_infos_val.pkl, itself or its name within `root`.
        sweeps: scans of a cloud, at least 1.

    Raises:
        WithinError: when the file cannot be read, is of another data set, or `sweeps` is below 1.
    """
    if sweeps < 1:
        raise WithinError(f"A cloud has at least one scan, not {sweeps}", where="sweeps")
    path = Path(infos) if Path(infos).is_file() else Path(root) / infos
    found = read_info_file(path)
    if found.dataset.lower() != "nuscenes":
        raise WithinError(f"The infos are those of {found.dataset!r}, not of nuScenes", where=str(path))
    unknown = sorted(set(found.categories) - set(CLASSES))
    if unknown:
        raise WithinError(f"{unknown[0]!r} is none of the ten classes", where=f"{path}, metainfo, categories")
    return NuscenesFrames(Path(root), found, sweeps)
