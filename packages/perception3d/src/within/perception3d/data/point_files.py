"""Point clouds in files of float32: KITTI (x, y, z, reflectance) and nuScenes (x, y, z, intensity, ring)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from within.core.errors import WithinError

KITTI_COLUMNS, NUSCENES_COLUMNS = 4, 5


def read_points(path: str | Path, columns: int = KITTI_COLUMNS) -> Float32[np.ndarray, "points columns"]:
    """Returns the points of a file.

    Arguments:
        path: of a `.bin` file.
        columns: numbers of a point.

    Raises:
        WithinError: when the file is missing, holds no whole number of points, none at all, or NaN or infinity.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise WithinError(f"The points could not be read ({error.strerror})", where=str(path)) from error
    if len(raw) % (4 * columns):
        raise WithinError(
            f"{len(raw)} bytes are no whole number of points of {columns} float32 numbers",
            where=str(path),
            todo="the file is truncated, or its points have another number of columns: KITTI has 4, nuScenes 5",
        )
    points = np.frombuffer(raw, dtype="<f4").reshape(-1, columns).astype(np.float32)
    if not len(points):
        raise WithinError("The scan is empty", where=str(path), todo="leave the frame out")
    wrong = ~np.isfinite(points).all(1)
    if wrong.any():
        raise WithinError(
            f"{int(wrong.sum())} of {len(points)} points hold NaN or infinity",
            where=f"{path}, first point {int(wrong.argmax())}",
            todo="drop them before the file is written",
        )
    return points
