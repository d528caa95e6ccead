"""Finds what kind of data set a folder holds, and opens a part of it.

KITTI      training/velodyne            parts by ImageSets
nuScenes   *infos*SPLIT*.pkl, samples   MMDetection3D's infos v2
ONCE       data, ImageSets
"""

from __future__ import annotations

from pathlib import Path

from within.core.errors import WithinError
from within.perception3d.data.kitti import KittiFrames, find_kitti
from within.perception3d.data.nuscenes import NuscenesFrames, find_nuscenes
from within.perception3d.data.once import OnceFrames, find_once

KnownScenes = KittiFrames | NuscenesFrames | OnceFrames


def find_scenes(folder: str | Path, split: str | None = None) -> KnownScenes:
    """Returns a part of a data set.

    Arguments:
        folder: see the module.
        split: "train" or "val"; of KITTI also "all", which is what None takes there.

    Raises:
        WithinError: when the folder holds no data set that is known, or the part is not there.
    """
    root = Path(folder)
    if (root / "training" / "velodyne").is_dir():
        return find_kitti(root, split)
    infos = sorted(root.glob("*infos*.pkl" if split in (None, "all") else f"*infos*{split}*.pkl"))
    if infos:
        return find_nuscenes(root, infos[0])
    if (root / "data").is_dir() and (root / "ImageSets").is_dir():
        return find_once(root, split or "train")
    raise WithinError(
        "The folder holds no data set that is known",
        where=str(root),
        todo="KITTI has training/velodyne in it, nuScenes infos of MMDetection3D, ONCE data and ImageSets",
    )
