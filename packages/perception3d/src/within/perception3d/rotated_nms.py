"""Non-maximum suppression of boxes by their rotated overlap seen from above."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from within.perception3d.rotated_overlap import EPSILON, intersection

GROUND = [0, 1, 3, 4, 6]  # x, y, length, width and yaw of a box


def rotated_nms(
    boxes: NDArray[np.floating], scores: NDArray[np.floating], overlap: float, *, before: int = 4096, after: int = 500
) -> NDArray[np.int64]:
    """Returns the rows that stay, by falling score.

    Arguments:
        boxes: (boxes, 7 or more): x, y, z, length, width, height, yaw.
        scores: of each.
        overlap: a box is dropped that overlaps one of higher score by more than this.
        before: so many of the highest scores are looked at.
        after: so many are kept at most.
    """
    order = np.argsort(-scores, kind="stable")[:before]
    kept = _suppressed(np.ascontiguousarray(boxes[order][:, GROUND], np.float64), overlap, after)
    found: NDArray[np.int64] = order[kept]
    return found


@njit(cache=True)
def _suppressed(boxes, overlap, after):  # type: ignore[no-untyped-def]
    kept = np.empty(min(len(boxes), after), np.int64)
    count = 0
    for row in range(len(boxes)):
        stays = True
        for other in range(count):
            first = boxes[kept[other]]
            shared = intersection(first, boxes[row])
            union = first[2] * first[3] + boxes[row, 2] * boxes[row, 3] - shared
            if shared / max(union, EPSILON) > overlap:
                stays = False
                break
        if stays:
            kept[count] = row
            count += 1
            if count == after:
                break
    return kept[:count]
