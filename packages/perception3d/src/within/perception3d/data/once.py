"""ONCE: sequences of scans, some of them annotated.

    data/<sequence>/<sequence>.json     {meta_info, calib, frames: [{frame_id, pose, annos}]}
    data/<sequence>/lidar_roof/<frame_id>.bin     float32 x, y, z, intensity
    ImageSets/{train, val, test, raw_small, ...}.txt     a sequence a line

`annos` holds `names`, `boxes_3d` (x, y, z of the middle, length, width, height, yaw) and `boxes_2d`, a list for each
camera; most frames have none. Mao et al.: One Million Scenes for Autonomous Driving, NeurIPS Datasets and Benchmarks
2021. No file of the data set was at hand: the layout is what public readers of it expect, and that `pose` is a
quaternion (x, y, z, w) and a shift is from memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from within.core.errors import WithinError
from within.core.files import read_json
from within.perception3d.data.checked import entry, table
from within.perception3d.data.lidar_objects import LidarObjects, lidar_objects
from within.perception3d.data.point_files import read_points
from within.perception3d.data.scene import Scene

CLASSES = ("Car", "Bus", "Truck", "Pedestrian", "Cyclist")


@dataclass(frozen=True, eq=False)
class OnceFrame:
    """What a sequence says of one frame.

    Attributes:
        sequence, name: of the frame; its name is its time in milliseconds.
        pose: the seven numbers of the file.
        objects: None where nobody annotated it.
    """

    sequence: str
    name: str
    pose: Float64[np.ndarray, " numbers"]
    objects: LidarObjects | None


@dataclass(frozen=True)
class OnceFrames:
    """Some frames of a folder.

    Attributes:
        root: that holds `data` and `ImageSets`.
        frames: in the order of the sequences and of time.
    """

    root: Path
    frames: tuple[OnceFrame, ...]

    def __len__(self) -> int:
        return len(self.frames)

    def scene(self, index: int) -> Scene:
        """Returns a frame; one without annotations has no boxes."""
        frame = self.frames[index]
        objects = frame.objects if frame.objects is not None else lidar_objects([], [])
        return Scene(frame.name, self.points(index), objects.boxes.astype(np.float32), objects.names)

    def take(self, rows: Sequence[int]) -> OnceFrames:
        """Returns some of the frames."""
        return OnceFrames(self.root, tuple(self.frames[row] for row in rows))

    def points(self, index: int) -> Float32[np.ndarray, "points 4"]:
        """Returns x, y, z and intensity.

        Raises:
            WithinError: when the file is missing or damaged.
        """
        frame = self.frames[index]
        return read_points(self.root / "data" / frame.sequence / "lidar_roof" / f"{frame.name}.bin")


def find_once(root: str | Path, split: str, *, annotated: bool = True) -> OnceFrames:
    """Returns the frames of a part of the data set.

    Arguments:
        root: the folder that holds `data` and `ImageSets`.
        split: the name of a list in `ImageSets`, such as "train" or "val".
        annotated: leave frames without annotations out.

    Raises:
        WithinError: when the list or a sequence is missing or malformed, or no frame is left.
    """
    path = Path(root) / "ImageSets" / f"{split}.txt"
    if not path.is_file():
        there = sorted(each.stem for each in path.parent.glob("*.txt"))
        raise WithinError(
            f"There is no list of the part {split!r}",
            where=str(path),
            todo=f"choose among {there}" if there else "give the folder that holds data/ and ImageSets/",
        )
    frames = tuple(
        frame
        for sequence in path.read_text().split()
        for frame in read_sequence(Path(root) / "data" / sequence / f"{sequence}.json")
        if frame.objects is not None or not annotated
    )
    if not frames:
        raise WithinError("No frame is left", where=str(path), todo="pass annotated=False for unlabelled parts")
    return OnceFrames(Path(root), frames)


def read_sequence(path: str | Path) -> tuple[OnceFrame, ...]:
    """Returns the frames of a sequence.

    Raises:
        WithinError: when the file cannot be read, or something in it is missing or malformed.
    """
    frames = entry(read_json(path), "frames", str(path))
    if not isinstance(frames, list):
        raise WithinError(f"The frames are a {type(frames).__name__}, not a list", where=str(path))
    return tuple(_frame(frame, Path(path).stem, f"{path}, frame {number}") for number, frame in enumerate(frames))


def _frame(frame: Any, sequence: str, where: str) -> OnceFrame:
    name = str(entry(frame, "frame_id", where))
    pose = table(frame.get("pose", ()), (len(frame.get("pose", ())),), "pose", where)
    if not frame.get("annos"):
        return OnceFrame(sequence, name, pose, None)
    names = entry(frame["annos"], "names", where)
    unknown = sorted(set(names) - set(CLASSES))
    if unknown:
        raise WithinError(f"{unknown[0]!r} is no class of ONCE", where=where, todo=f"they are {list(CLASSES)}")
    return OnceFrame(sequence, name, pose, lidar_objects(names, entry(frame["annos"], "boxes_3d", where), where=where))
