"""Farthest-point sampling and ball query, compiled; see `neighbours`."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def farthest_points(points, count):  # type: ignore[no-untyped-def]
    """Returns the numbers of points (batch, count) of clouds (batch, 3, points)."""
    batch, _, number = points.shape
    found = np.zeros((batch, count), np.int64)
    for cloud in range(batch):
        x, y, z = points[cloud]
        distances = np.full(number, np.inf, points.dtype)
        for place in range(1, count):
            last = found[cloud, place - 1]
            for at in range(number):
                dx, dy, dz = x[at] - x[last], y[at] - y[last], z[at] - z[last]
                distances[at] = min(distances[at], dx * dx + dy * dy + dz * dz)
            found[cloud, place] = np.argmax(distances)
    return found


@njit(cache=True)
def ball_query(centres, points, radius, count):  # type: ignore[no-untyped-def]
    """Returns the numbers of points (batch, centres, count) near centres (batch, 3, centres)."""
    batch, _, number = points.shape
    found = np.zeros((batch, centres.shape[2], count), np.int64)
    limit = points.dtype.type(radius * radius)
    for cloud in range(batch):
        x, y, z = points[cloud]
        for centre in range(centres.shape[2]):
            cx, cy, cz = centres[cloud, :, centre]
            met = 0
            for at in range(number):
                dx, dy, dz = cx - x[at], cy - y[at], cz - z[at]
                if dx * dx + dy * dy + dz * dz < limit:
                    found[cloud, centre, met] = at
                    met += 1
                    if met == count:
                        break
            if met:
                found[cloud, centre, met:] = found[cloud, centre, 0]
    return found
