"""Label files of KITTI: ground truth of 15 columns a line, detections with a score as the 16th.

    type truncated occluded alpha  left top right bottom  height width length  x y z  rotation_y  [score]

Positions are those of the bottom of the box in the camera's frame (x right, y down, z forward), in metres; angles in
radians; image boxes in pixels. Geiger, Lenz, Urtasun: Are we ready for autonomous driving?, CVPR 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.core.files import atomic_write

COLUMNS = 15


@dataclass(frozen=True, eq=False)
class KittiObjects:
    """The objects of one frame.

    Attributes:
        names: classes, "DontCare" among them.
        truncated, occluded, alpha: of each object.
        image_boxes: left, top, right and bottom.
        sizes: length, height and width.
        locations: x, y and z of the bottom's centre.
        rotations: about the camera's y axis.
        scores: of detections; None for ground truth.
    """

    names: tuple[str, ...]
    truncated: Float64[np.ndarray, " objects"]
    occluded: Float64[np.ndarray, " objects"]
    alpha: Float64[np.ndarray, " objects"]
    image_boxes: Float64[np.ndarray, "objects 4"]
    sizes: Float64[np.ndarray, "objects 3"]
    locations: Float64[np.ndarray, "objects 3"]
    rotations: Float64[np.ndarray, " objects"]
    scores: Float64[np.ndarray, " objects"] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> KittiObjects:
        """Returns some of the objects."""
        chosen = np.asarray(rows, dtype=np.int64)
        arrays = {
            field.name: None if (value := getattr(self, field.name)) is None else value[chosen]
            for field in fields(self)
            if field.name != "names"
        }
        return KittiObjects(tuple(self.names[row] for row in chosen), **arrays)


def read_labels(path: str | Path) -> KittiObjects:
    """Returns the objects of a label or detection file; an empty file has none.

    Raises:
        WithinError: when the file cannot be read, or a line is malformed, with its number.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WithinError(f"The labels could not be read ({error})", where=str(path)) from error
    names, rows = [], []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        where = f"{path}, line {number}"
        if len(words) not in (COLUMNS, COLUMNS + 1):
            raise WithinError(
                f"A line has {len(words)} columns", where=where, todo=f"labels have {COLUMNS}, detections one more"
            )
        try:
            values = [float(word) for word in words[1:]]
        except ValueError as error:
            raise WithinError(f"A column is no number ({error})", where=where) from None
        if not np.isfinite(values).all():
            raise WithinError("A column is NaN or infinite", where=where)
        if rows and len(values) != len(rows[0]):
            raise WithinError("Some lines have a score and some have none", where=where)
        names.append(words[0])
        rows.append(values)
    return _objects(names, np.array(rows, dtype=np.float64) if rows else np.zeros((0, COLUMNS - 1)))


def _objects(names: Sequence[str], table: NDArray[np.float64]) -> KittiObjects:
    height, width, length = table[:, 7], table[:, 8], table[:, 9]
    return KittiObjects(
        tuple(names),
        table[:, 0],
        table[:, 1],
        table[:, 2],
        table[:, 3:7],
        np.stack([length, height, width], axis=1),
        table[:, 10:13],
        table[:, 13],
        table[:, 14] if table.shape[1] == COLUMNS else None,
    )


def write_detections(path: str | Path, objects: KittiObjects) -> None:
    """Writes detections; whole or not at all.

    Raises:
        WithinError: when they have no scores, or the file cannot be written.
    """
    if objects.scores is None:
        raise WithinError("Detections need scores", where=str(path))
    _write(
        path, objects, [f"-1 -1 {alpha:.4f}" for alpha in objects.alpha], [f" {score:.4f}" for score in objects.scores]
    )


def write_labels(path: str | Path, objects: KittiObjects) -> None:
    """Writes ground truth; whole or not at all.

    Raises:
        WithinError: when the file cannot be written.
    """
    seen = zip(objects.truncated, objects.occluded, objects.alpha, strict=True)
    _write(path, objects, [f"{cut:.2f} {hidden:.0f} {alpha:.4f}" for cut, hidden, alpha in seen], [""] * len(objects))


def _write(path: str | Path, objects: KittiObjects, first: Sequence[str], last: Sequence[str]) -> None:
    lines = []
    for row, name in enumerate(objects.names):
        length, height, width = objects.sizes[row]
        numbers = [
            *objects.image_boxes[row], height, width, length, *objects.locations[row], objects.rotations[row],
        ]  # fmt: skip
        lines.append(f"{name} {first[row]} " + " ".join(f"{value:.4f}" for value in numbers) + last[row])
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines))
