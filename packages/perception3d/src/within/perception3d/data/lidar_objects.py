"""The objects of one frame as boxes in the lidar's frame, as nuScenes, ONCE and the detectors have them.

A box is (x, y, z, length, width, height, yaw): metres, z at its middle, yaw in radians from x towards y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.perception3d.data.checked import table


@dataclass(frozen=True, eq=False)
class LidarObjects:
    """The objects of one frame; `lidar_objects` makes them and checks them.

    Attributes:
        names: classes.
        boxes: x, y, z, length, width, height and yaw.
        velocities: along x and y, in metres a second; NaN where unknown.
        attributes: such as "vehicle.parked"; "" where there is none.
        point_counts: points in each box; -1 where nobody counted.
        scores: of detections; None for ground truth.
    """

    names: tuple[str, ...]
    boxes: Float64[np.ndarray, "objects 7"]
    velocities: Float64[np.ndarray, "objects 2"]
    attributes: tuple[str, ...]
    point_counts: Int64[np.ndarray, " objects"]
    scores: Float64[np.ndarray, " objects"] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Sequence[int] | NDArray[np.integer] | NDArray[np.bool_]) -> LidarObjects:
        """Returns some of the objects, by number or by a mask."""
        chosen = np.arange(len(self))[np.asarray(rows, dtype=None if len(rows) else np.int64)]
        return LidarObjects(
            tuple(self.names[row] for row in chosen),
            self.boxes[chosen],
            self.velocities[chosen],
            tuple(self.attributes[row] for row in chosen),
            self.point_counts[chosen],
            None if self.scores is None else self.scores[chosen],
        )

    def moved(self, transform: Float64[np.ndarray, "4 4"]) -> LidarObjects:
        """Returns the objects in another frame.

        Arguments:
            transform: a turn and a shift, from this frame to the other. A box stays upright: its yaw there is that of
                its turned front.
        """
        boxes = self.boxes.copy()
        boxes[:, :3] = self.boxes[:, :3] @ transform[:3, :3].T + transform[:3, 3]
        front = np.stack([np.cos(self.boxes[:, 6]), np.sin(self.boxes[:, 6])], axis=1) @ transform[:2, :2].T
        boxes[:, 6] = np.arctan2(front[:, 1], front[:, 0])
        speeds = self.velocities @ transform[:2, :2].T
        return LidarObjects(self.names, boxes, speeds, self.attributes, self.point_counts, self.scores)


def lidar_objects(
    names: Sequence[str],
    boxes: Any,
    *,
    velocities: Any = None,
    attributes: Sequence[str] | None = None,
    point_counts: Any = None,
    scores: Any = None,
    where: str | None = None,
) -> LidarObjects:
    """Returns the objects of one frame; what is not given is unknown.

    Arguments:
        names, boxes, velocities, attributes, point_counts, scores: see `LidarObjects`; numbers nested or in arrays.
        where: named in errors, such as the file they come from.

    Raises:
        WithinError: when the numbers of objects differ, a box has not 7 numbers, or a box or a score is not finite.
    """
    count = len(names)
    found = LidarObjects(
        tuple(str(name) for name in names),
        table(boxes, (count, 7), "boxes", where),
        table(np.full((count, 2), np.nan) if velocities is None else velocities, (count, 2), "velocities", where),
        tuple(attributes) if attributes is not None else ("",) * count,
        table(np.full(count, -1) if point_counts is None else point_counts, (count,), "point_counts", where).astype(
            np.int64
        ),
        None if scores is None else table(scores, (count,), "scores", where),
    )
    if len(found.attributes) != count:
        raise WithinError(f"{count} names and {len(found.attributes)} attributes", where=where)
    wrong = ~np.isfinite(found.boxes).all(1)
    if found.scores is not None:
        wrong |= ~np.isfinite(found.scores)
    if wrong.any():
        row = int(wrong.argmax())
        raise WithinError(f"The box or score of object {row} ({found.names[row]}) is NaN or infinite", where=where)
    return found
