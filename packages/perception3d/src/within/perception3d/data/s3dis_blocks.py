"""Rooms of S3DIS cut into blocks of 1.5 m seen from above, and the nine features of a point in its block.

A room is cut twice, the second time half a block further. Small blocks join a neighbour; places of 3 cm with few points
repeat them until they have as many as the average; a block of many points becomes several windows of at most 8192.

    features    x and y from the middle of the block, z from the floor; r, g, b / 255; x, y, z / extent of the room

Li et al.: PointCNN, NeurIPS 2018, whose preparation PVCNN shares (Liu et al., NeurIPS 2019).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32
from numpy.typing import NDArray

from within.core import parallel
from within.core.errors import WithinError
from within.core.files import atomic_write
from within.perception3d.data.s3dis import AREAS, LABELS, POINTS, Room, find_rooms, read_room

SIZE, CELL, MOST_POINTS = 1.5, 0.03, 8192  # metres, metres
SMALL = MOST_POINTS / 10  # points below which a block joins a neighbour
NEIGHBOURS = ((0, 1), (1, 0), (0, -1), (-1, 0), (-1, 1), (1, 1), (1, -1), (-1, -1))
WINDOWS = "windows.npz"


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of one room.

    Attributes:
        rows: points of the room, the windows one after the other.
        starts: of each window in them, and their number at the end.
        low: smallest x and y of the block of each window.
    """

    rows: Int32[np.ndarray, " rows"]
    starts: Int32[np.ndarray, " windows_and_end"]
    low: Float32[np.ndarray, "windows 2"]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> Int32[np.ndarray, " points"]:
        """Returns the points of a window."""
        return self.rows[self.starts[number] : self.starts[number + 1]]


def cut(points: NDArray[np.float32], *, seed: int = 0) -> Windows:
    """Returns the windows of a room, cut without and with an offset.

    Arguments:
        points: x, y, z and further columns, from the room's lowest corner.
        seed: which points are repeated, and which go into which window.
    """
    generator = np.random.default_rng(seed)
    rows, low = [], []
    for offset in (0.0, SIZE / 2):
        for block in _blocks(points[:, :2], offset):
            corner = points[block, :2].min(0)
            even = generator.permutation(_evenly(points[:, :3], block, generator))
            parts = -(-len(even) // MOST_POINTS)
            each = -(-len(even) // parts)
            windows = [even[first : first + each] for first in range(0, len(even), each)]
            rows += windows
            low += [corner] * len(windows)
    starts = list(itertools.accumulate(map(len, rows), initial=0))
    return Windows(np.concatenate(rows).astype(np.int32), np.array(starts, np.int32), np.array(low, np.float32))


def window_features(room: Room, rows: NDArray[np.integer], low: NDArray[np.float32]) -> Float32[np.ndarray, "9 points"]:
    """Returns the features of points of a room in a block whose smallest x and y are `low`."""
    points = room.points[rows]
    inside = points[:, :3].copy()
    inside[:, :2] -= low + np.float32(SIZE / 2)
    found: NDArray[np.float32] = np.concatenate([inside, points[:, 3:] / 255, points[:, :3] / room.extent], axis=1).T
    return np.ascontiguousarray(found, np.float32)


def prepare_rooms(
    source: str | Path, target: str | Path, *, areas: Sequence[int] = AREAS, seed: int = 0, workers: int | None = 1
) -> list[Path]:
    """Writes every room in the prepared form with its windows, so that training finds them at once.

    Arguments:
        source: folder of the data set, in any of the forms of `data.s3dis`.
        target: receives Area_N/ROOM/{xyzrgb.npy, label.npy, windows.npz}; rooms that are there already are left alone.
        areas: which to prepare.
        seed: see `cut`.
        workers: processes; None takes all processors; a room of a million points takes some ten seconds.

    Raises:
        WithinError: as `find_rooms` and `read_room` do, or when a file cannot be written.
    """
    jobs = []
    for path in find_rooms(source, areas):
        area, name = _area_and_name(path)
        jobs.append((path, Path(target) / area / name, seed))
    return parallel.map(prepare_room, jobs, workers=workers, description="Preparing rooms")


def prepare_room(job: tuple[Path, Path, int]) -> Path:
    """Writes one room, given where it is, where it goes, and a seed; see `prepare_rooms`."""
    path, folder, seed = job
    if (folder / WINDOWS).is_file():
        return folder
    room = read_room(path)
    windows = cut(room.points, seed=seed)
    arrays = {POINTS: room.points, LABELS: room.labels.astype(np.uint8)}
    for name, array in arrays.items():
        with atomic_write(folder / name) as temporary, temporary.open("wb") as handle:
            np.save(handle, array)
    with atomic_write(folder / WINDOWS) as temporary, temporary.open("wb") as handle:
        np.savez(handle, rows=windows.rows, starts=windows.starts, low=windows.low)
    return folder


def read_windows(folder: str | Path) -> Windows | None:
    """Returns the windows of a prepared room, or None where there are none.

    Raises:
        WithinError: when the file is damaged.
    """
    path = Path(folder) / WINDOWS
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Windows(stored["rows"], stored["starts"], stored["low"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise WithinError(
            f"The windows could not be read ({error})", where=str(path), todo="prepare it anew"
        ) from error


def _blocks(places: NDArray[np.float32], offset: float) -> list[NDArray[np.int64]]:
    """Returns the points of each block; a small one joins the first neighbour that is not small."""
    cells = np.floor((places - (places.min(0) - np.float32(offset))) / np.float32(SIZE)).astype(np.int64)
    kinds, inverse, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    groups = np.split(np.argsort(inverse.reshape(-1), kind="stable"), np.cumsum(counts)[:-1])
    at = {(int(x), int(y)): number for number, (x, y) in enumerate(kinds)}
    for (x, y), number in at.items():
        if counts[number] < SMALL:
            beside = (at.get((x + dx, y + dy)) for dx, dy in NEIGHBOURS)
            joined = next((each for each in beside if each is not None and counts[each] >= SMALL), None)
            if joined is not None:
                groups[joined] = np.concatenate([groups[joined], groups[number]])
                groups[number] = groups[number][:0]
    return [group for group in groups if len(group)]


def _evenly(points: NDArray[np.float32], rows: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Returns the rows, those in sparse places repeated up to the average of all places."""
    inside = points[rows]
    cells = np.floor((inside - inside.min(0)) / np.float32(CELL)).astype(np.int64)
    _, inverse, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort((generator.random(len(rows)), inverse.reshape(-1)))  # place by place, shuffled inside
    wanted = np.maximum(counts, int(counts.mean()))
    first = np.repeat(np.cumsum(counts) - counts, wanted)
    step = np.arange(wanted.sum()) - np.repeat(np.cumsum(wanted) - wanted, wanted)
    found: NDArray[np.int64] = rows[order[first + step % np.repeat(counts, wanted)]]
    return found


def _area_and_name(path: Path) -> tuple[str, str]:
    if path.parent.name.startswith("Area_"):
        return path.parent.name, path.stem if path.is_file() else path.name
    _, area, name = path.stem.split("_", 2)
    return f"Area_{area}", name
