"""Overlap of rotated rectangles and of boxes that stand upright, compiled.

A rectangle is its centre (x, y), its extents along its own axes, and its angle: its own axes are turned by the angle
from the first towards the second coordinate, counter-clockwise where those are x and y.
"""

from __future__ import annotations

import numpy as np
from numba import njit

EPSILON = 1e-9


@njit(cache=True)
def corners(box):  # type: ignore[no-untyped-def]
    """Returns the four corners (4, 2) of (x, y, length, width, angle), in order."""
    cos, sin = np.cos(box[4]), np.sin(box[4])
    found = np.empty((4, 2))
    for number in range(4):
        along = box[2] / 2 if number in (0, 3) else -box[2] / 2
        across = box[3] / 2 if number < 2 else -box[3] / 2
        found[number, 0] = box[0] + along * cos - across * sin
        found[number, 1] = box[1] + along * sin + across * cos
    return found


@njit(cache=True)
def intersection(first, second):  # type: ignore[no-untyped-def]
    """Returns the area that two rectangles share: the first is clipped by each side of the second."""
    reach = (first[2] + first[3] + second[2] + second[3]) / 2
    if abs(first[0] - second[0]) > reach or abs(first[1] - second[1]) > reach:
        return 0.0
    polygon = np.empty((16, 2))
    clipped = np.empty((16, 2))
    polygon[:4] = corners(first)
    count = 4
    edges = corners(second)
    for side in range(4):
        x0, y0 = edges[side]
        x1, y1 = edges[(side + 1) % 4]
        kept = 0
        for at in range(count):
            here, there = polygon[at], polygon[(at + 1) % count]
            inside = (x1 - x0) * (here[1] - y0) - (y1 - y0) * (here[0] - x0)
            beyond = (x1 - x0) * (there[1] - y0) - (y1 - y0) * (there[0] - x0)
            if inside >= 0:
                clipped[kept] = here
                kept += 1
            if (inside > 0 > beyond) or (inside < 0 < beyond):
                share = inside / (inside - beyond)
                clipped[kept] = here + share * (there - here)
                kept += 1
        polygon, clipped = clipped, polygon
        count = kept
        if count < 3:
            return 0.0
    area = 0.0
    for at in range(count):
        here, there = polygon[at], polygon[(at + 1) % count]
        area += here[0] * there[1] - here[1] * there[0]
    return abs(area) / 2


@njit(cache=True)
def rectangle_overlaps(first, second):  # type: ignore[no-untyped-def]
    """Returns intersection over union of all pairs of rectangles (n, 5) and (m, 5)."""
    found = np.zeros((len(first), len(second)))
    for i in range(len(first)):
        for j in range(len(second)):
            shared = intersection(first[i], second[j])
            union = first[i, 2] * first[i, 3] + second[j, 2] * second[j, 3] - shared
            found[i, j] = shared / max(union, EPSILON)
    return found


@njit(cache=True)
def box_overlaps(first, second, low_first, high_first, low_second, high_second):  # type: ignore[no-untyped-def]
    """Returns intersection over union of all pairs of upright boxes.

    Arguments:
        first, second: rectangles on the ground, (n, 5) and (m, 5).
        low_first, high_first, low_second, high_second: where each box begins and ends vertically.
    """
    found = np.zeros((len(first), len(second)))
    for i in range(len(first)):
        for j in range(len(second)):
            height = min(high_first[i], high_second[j]) - max(low_first[i], low_second[j])
            if height <= 0:
                continue
            shared = height * intersection(first[i], second[j])
            volume = first[i, 2] * first[i, 3] * (high_first[i] - low_first[i])
            other = second[j, 2] * second[j, 3] * (high_second[j] - low_second[j])
            found[i, j] = shared / max(volume + other - shared, EPSILON)
    return found
