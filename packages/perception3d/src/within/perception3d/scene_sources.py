"""Finds what kind of data set a folder holds, and opens a part of it."""

from __future__ import annotations

from pathlib import Path

from within.core.errors import WithinError
from within.perception3d.data.kitti import find_kitti
from within.perception3d.data.scene import Scenes


def find_scenes(folder: str | Path, split: str | None = None) -> Scenes:
    """Returns a part of a data set.

    Arguments:
        folder: of KITTI (training/velodyne).
        split: "train" or "val"; None takes everything.

    Raises:
        WithinError: when the folder holds no data set that is known, or the part is not there.
    """
    root = Path(folder)
    if (root / "training" / "velodyne").is_dir():
        return find_kitti(root, split)
    raise WithinError(
        "The folder holds no data set that is known", where=str(root), todo="KITTI has training/velodyne in it"
    )
