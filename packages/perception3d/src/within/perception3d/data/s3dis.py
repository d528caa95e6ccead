"""Rooms of S3DIS: points with colours and the class of each, from the forms in which they are kept.

    Area_5/office_1/Annotations/chair_1.txt ...     as released (Stanford3dDataset_v1.2_Aligned_Version): x y z r g b
    Area_5/office_1/{xyzrgb,label}.npy              as PointCNN and PVCNN prepare it
    Area_5_office_1.npy, Area_5/office_1.{npy,txt}  seven columns, the last a class in PointNet's order

Armeni et al.: 3D Semantic Parsing of Large-Scale Indoor Spaces, CVPR 2016. Classes are numbered as in PVCNN.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from within.core.errors import WithinError

CLASSES = tuple("clutter ceiling floor wall beam column door window table chair sofa bookcase board".split())
POINTNET_ORDER = tuple("ceiling floor wall beam column window door table chair sofa bookcase board clutter".split())
AREAS = (1, 2, 3, 4, 5, 6)
POINTS, LABELS = "xyzrgb.npy", "label.npy"


@dataclass(frozen=True, eq=False)
class Room:
    """One room.

    Attributes:
        points: x, y and z in metres from its lowest corner, and red, green and blue of 0 to 255.
        labels: number of the class in `CLASSES`.
    """

    points: Float32[np.ndarray, "points 6"]
    labels: Int64[np.ndarray, " points"]

    @cached_property
    def extent(self) -> Float32[np.ndarray, " 3"]:
        """Length, width and height in metres; never 0."""
        found: NDArray[np.float32] = np.maximum(self.points[:, :3].max(0), np.float32(1e-6))
        return found


def areas_of(split: str, holdout: int = 5) -> tuple[int, ...]:
    """Returns the areas of a split: "test" is the one held out, "train" the others.

    Raises:
        WithinError: for another split or area.
    """
    if holdout not in AREAS or split not in ("train", "test"):
        raise WithinError(
            f"There is no split {split!r} of S3DIS with area {holdout} held out",
            todo="choose train or test, and 1 to 6",
        )
    return (holdout,) if split == "test" else tuple(area for area in AREAS if area != holdout)


def find_rooms(root: str | Path, areas: Sequence[int] = AREAS) -> list[Path]:
    """Returns the folder or file of every room of some areas, in the order of their names.

    Raises:
        WithinError: when an area has none.
    """
    found = []
    for area in areas:
        folder = Path(root) / f"Area_{area}"
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
        rooms = [each for each in inside if _is_room(each)] or sorted(Path(root).glob(f"Area_{area}_*.npy"))
        if not rooms:
            raise WithinError(
                f"Area {area} of S3DIS has no rooms", where=str(folder),
                todo="give the folder that holds Area_1 to Area_6 (Stanford3dDataset_v1.2_Aligned_Version)",
            )  # fmt: skip
        found += rooms
    return found


def read_room(path: str | Path) -> Room:
    """Returns the points of a room, from any of the forms.

    Raises:
        WithinError: when a file is missing or damaged, has other columns, NaN, or a class that there is not.
    """
    place = Path(path)
    if (place / POINTS).is_file():
        points = table_of(place / POINTS, 6)
        labels = table_of(place / LABELS, None).reshape(-1)
    elif (place / "Annotations").is_dir():
        points, labels = _annotated(place / "Annotations")
    elif place.is_file():
        table = table_of(place, 7)
        points, labels = table[:, :6], _renumbered(table[:, 6], place)
    else:
        raise WithinError("There is no room", where=str(place), todo=f"a room has {POINTS}, Annotations, or is a .npy")
    if len(points) != len(labels):
        raise WithinError(f"{len(points)} points and {len(labels)} labels", where=str(place))
    if not len(points):
        raise WithinError("The room has no points", where=str(place))
    wrong = (labels < 0) | (labels >= len(CLASSES)) | (labels != labels.round())
    if wrong.any():
        raise WithinError(
            f"A class is {labels[wrong][0]}, where there are 0 to {len(CLASSES) - 1}", where=f"{place}, point "
            f"{int(wrong.argmax())}",
        )  # fmt: skip
    points = points.astype(np.float64)
    points[:, :3] -= points[:, :3].min(0)  # before rounding: coordinates of the building are large
    return Room(points.astype(np.float32), labels.astype(np.int64))


def table_of(path: Path, columns: int | None) -> NDArray[np.floating]:
    """Returns the numbers of a .npy or text file.

    Raises:
        WithinError: when it is missing or damaged, or has another number of columns, NaN or infinity.
    """
    try:
        if path.suffix == ".npy":
            table = np.load(path, allow_pickle=False)
        else:
            table = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError, EOFError) as error:
        raise WithinError(
            f"The file could not be read ({error})", where=str(path), todo="mend the line, or fetch the file again"
        ) from error
    if table.dtype.kind not in "fiu":
        raise WithinError(f"The file holds {table.dtype}, not numbers", where=str(path))
    if columns is not None and (table.ndim != 2 or table.shape[1] != columns):
        raise WithinError(f"The table is of {table.shape}, and should have {columns} columns", where=str(path))
    if not np.isfinite(table).all():
        raise WithinError("The file holds NaN or infinity", where=str(path))
    found: NDArray[np.floating] = table if table.dtype.kind == "f" else table.astype(np.float64)
    return found


def _annotated(folder: Path) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Reads the objects of a room; kinds that are no class, such as stairs, are left out, as in the published sets."""
    tables: list[NDArray[np.floating]] = [np.zeros((0, 6))]
    labels: list[NDArray[np.floating]] = [np.zeros(0)]
    for path in sorted(folder.glob("*.txt")):
        name = re.sub(r"_.*", "", path.stem)
        if name in CLASSES:
            tables.append(table_of(path, 6))
            labels.append(np.full(len(tables[-1]), CLASSES.index(name), np.float64))
    return np.concatenate(tables), np.concatenate(labels)


def _renumbered(labels: NDArray[np.floating], where: Path) -> NDArray[np.floating]:
    if ((labels < 0) | (labels >= len(POINTNET_ORDER)) | (labels != labels.round())).any():
        raise WithinError("The last column is no class of 0 to 12", where=str(where))
    return np.array([CLASSES.index(name) for name in POINTNET_ORDER], np.float64)[labels.astype(np.int64)]


def _is_room(path: Path) -> bool:
    if path.is_dir():
        return (path / POINTS).is_file() or (path / "Annotations").is_dir()
    return path.suffix in (".npy", ".txt")
