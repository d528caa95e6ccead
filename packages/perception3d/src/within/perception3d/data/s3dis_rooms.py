"""S3DIS as training and evaluation see it: windows of rooms, from our prepared form or the field's HDF5 files.

Both kinds of data set give items (features (9, points), labels (points)) with points drawn anew each time, and the
whole windows of each room for evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from within.core.errors import WithinError, missing_extra
from within.perception3d.data.s3dis import LABELS, find_rooms, read_room, table_of
from within.perception3d.data.s3dis_blocks import cut, read_windows, window_features

ROOMS_IN_MEMORY = 64


@dataclass(frozen=True, eq=False)
class Window:
    """A part of a room.

    Attributes:
        features: of its points.
        rows: their numbers in the room; some more than once.
    """

    features: Float32[np.ndarray, "9 points"]
    rows: Int64[np.ndarray, " points"]


@runtime_checkable
class Rooms(Protocol):
    """Windows of rooms; see the module."""

    points: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Returns the features and labels of `points` points of a window, drawn with NumPy's global generator."""
        ...

    @property
    def rooms(self) -> list[str]:
        """Names of the rooms."""
        ...

    def labels(self, room: int) -> Int64[np.ndarray, " points"]:
        """Returns the class of every point of a room."""
        ...

    def windows(self, room: int) -> Iterator[Window]:
        """Yields the windows of a room."""
        ...


def open_rooms(root: str | Path, areas: Sequence[int], *, points: int) -> Rooms:
    """Returns the windows of some areas: from HDF5 files where there are any, else from rooms.

    Arguments:
        root: folder that holds Area_1 to Area_6.
        areas: which.
        points: drawn from a window for an item.

    Raises:
        WithinError: when an area has no rooms, and as the readers do.
    """
    files = [path for area in areas for path in sorted(Path(root).glob(f"Area_{area}/*/*_*.h5"))]
    return H5Rooms(files, points=points) if files else CutRooms(root, areas, points=points)


class CutRooms:
    """Windows of rooms; those that `prepare_rooms` has not written are cut here, which takes a while for all of S3DIS.

    Arguments:
        root, areas, points: see `open_rooms`.
    """

    def __init__(self, root: str | Path, areas: Sequence[int], *, points: int) -> None:
        self.points, self.paths = points, find_rooms(root, areas)
        self.read = lru_cache(ROOMS_IN_MEMORY)(read_room)
        self.cuts = [read_windows(path) or cut(self.read(path).points) for path in self.paths]
        self.places = [(room, number) for room, each in enumerate(self.cuts) for number in range(len(each))]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "read": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, read=lru_cache(ROOMS_IN_MEMORY)(read_room))

    def __len__(self) -> int:
        return len(self.places)

    def item_name(self, index: int) -> str:
        """Returns the room and the number of a window."""
        room, number = self.places[index]
        return f"{self.paths[room]}, window {number}"

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Returns features and labels of points of a window."""
        place, number = self.places[index]
        room, windows = self.read(self.paths[place]), self.cuts[place]
        rows = windows[number][_drawn(len(windows[number]), self.points)]
        features = window_features(room, rows, windows.low[number])
        return torch.from_numpy(features), torch.from_numpy(room.labels[rows])

    @property
    def rooms(self) -> list[str]:
        """Names of the rooms."""
        return [str(path) for path in self.paths]

    def labels(self, room: int) -> Int64[np.ndarray, " points"]:
        """Returns the class of every point of a room."""
        return self.read(self.paths[room]).labels

    def windows(self, room: int) -> Iterator[Window]:
        """Yields the windows of a room."""
        read, windows = self.read(self.paths[room]), self.cuts[room]
        for number in range(len(windows)):
            rows = windows[number].astype(np.int64)
            yield Window(window_features(read, rows, windows.low[number]), rows)


class H5Rooms:
    """Windows as PointCNN's preparation writes them: ROOM/{zero,half}_0.h5 beside ROOM/label.npy.

    Arguments:
        files: the HDF5 files.
        points: drawn from a window for an item.

    Raises:
        WithinError: when h5py is not installed, or a file is damaged.
    """

    def __init__(self, files: Sequence[Path], *, points: int) -> None:
        self.points, self.files = points, list(files)
        self.folders = sorted({path.parent for path in self.files})
        self.places = []
        for path in self.files:
            with _opened(path) as stored:
                self.places += [(path, number) for number in range(len(stored["data_num"]))]

    def __len__(self) -> int:
        return len(self.places)

    def item_name(self, index: int) -> str:
        """Returns the file and the number of a window."""
        path, number = self.places[index]
        return f"{path}, window {number}"

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Returns features and labels of points of a window."""
        path, number = self.places[index]
        with _opened(path) as stored:
            chosen = _drawn(int(stored["data_num"][number]), self.points)
            features, labels = stored["data"][number][chosen], stored["label_seg"][number][chosen]
        return torch.from_numpy(features.T.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))

    @property
    def rooms(self) -> list[str]:
        """Names of the rooms."""
        return [str(folder) for folder in self.folders]

    def labels(self, room: int) -> Int64[np.ndarray, " points"]:
        """Returns the class of every point of a room."""
        return table_of(self.folders[room] / LABELS, None).reshape(-1).astype(np.int64)

    def windows(self, room: int) -> Iterator[Window]:
        """Yields the windows of a room."""
        for path in (each for each in self.files if each.parent == self.folders[room]):
            with _opened(path) as stored:
                for number, count in enumerate(stored["data_num"][...]):
                    rows = stored["indices_split_to_full"][number][:count].astype(np.int64)
                    yield Window(stored["data"][number][:count].T.astype(np.float32), rows)


def _opened(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("within-perception3d", "hdf5", error) from error
    try:
        stored = h5py.File(path, "r")
    except OSError as error:
        raise WithinError(f"The file could not be read ({error})", where=str(path)) from error
    lacking = [name for name in ("data", "data_num", "label_seg", "indices_split_to_full") if name not in stored]
    if lacking:
        raise WithinError(f"The file has no {lacking[0]}", where=str(path), todo="prepare it as PointCNN does")
    return stored


def _drawn(count: int, wanted: int) -> Int64[np.ndarray, " wanted"]:
    """Returns places of points, none twice unless there are too few."""
    return np.random.choice(count, wanted, replace=count < wanted)
