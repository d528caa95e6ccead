"""Measured sensitivities made fit for optimisation: monotone, then convex.

A loss measured at a few widths is noisy: it may rise where the width grows. Isotonic regression is the least-squares
monotone fit; the lower convex hull of the fit is the largest convex function under it. On a convex table the linear
relaxation is tight between the points, so the integer programme over widths is easy, and equal marginal losses are
optimal (Hardy, Littlewood, Polya, Inequalities, 1934, chapter 3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from within.core.errors import WithinError
from within.core.solve.options import Floats, Integers


def monotone(
    points: ArrayLike, losses: ArrayLike, *, increasing: bool = False, weights: ArrayLike | None = None
) -> Floats:
    """Returns the least-squares monotone fit of `losses` over `points`.

    Arguments:
        points: where the loss was measured, shape `(points,)`, strictly increasing (for instance channels kept).
        losses: the measurements, shape `(points,)`.
        increasing: whether the loss should rise along `points`; a loss over kept channels falls.
        weights: how far each measurement is trusted, shape `(points,)`, positive; equal by default.

    Raises:
        WithinError: on shapes that differ, points out of order, numbers that are not finite, weights that are not
            positive.
    """
    _, y = checked_curve(points, losses)
    if weights is None:
        return np.asarray(isotonic_regression(y, increasing=increasing).x)
    trust = np.asarray(weights, dtype=np.float64)
    if trust.shape != y.shape or not np.isfinite(trust).all() or (trust <= 0).any():
        raise WithinError("The weights must be one positive number for each point", where="weights")
    return np.asarray(isotonic_regression(y, weights=trust, increasing=increasing).x)


def hull_vertices(points: ArrayLike, losses: ArrayLike) -> Integers:
    """Returns the indices of the points on the lower convex hull, ascending; the first and last are always there."""
    x, y = checked_curve(points, losses)
    vertices: list[int] = []
    for index in range(x.size):
        # A vertex goes when it lies on or above the chord of its neighbours (Andrew's monotone chain, 1979).
        while len(vertices) > 1:
            before, last = vertices[-2], vertices[-1]
            chord = (y[index] - y[before]) * (x[last] - x[before])
            if (y[last] - y[before]) * (x[index] - x[before]) < chord:
                break
            vertices.pop()
        vertices.append(index)
    return np.asarray(vertices, dtype=np.int64)


def convex(points: ArrayLike, losses: ArrayLike) -> Floats:
    """Returns the largest convex piecewise-linear function under the points, at every point, shape `(points,)`."""
    x, y = checked_curve(points, losses)
    vertices = hull_vertices(x, y)
    return np.minimum(y, np.interp(x, x[vertices], y[vertices]))


def sensitivity_curve(points: ArrayLike, losses: ArrayLike, *, increasing: bool = False) -> Floats:
    """Returns the monotone and convex form of measured losses, at every point, shape `(points,)`.

    The hull of a monotone table is monotone, so both properties hold in the result.

    Raises:
        WithinError: as `monotone` does.
    """
    return convex(points, monotone(points, losses, increasing=increasing))


def checked_curve(points: ArrayLike, losses: ArrayLike, where: str = "the curve") -> tuple[Floats, Floats]:
    """Returns both as float64 arrays of shape `(points,)`.

    Raises:
        WithinError: on shapes that differ, no point, points that do not increase, numbers that are not finite.
    """
    x, y = np.asarray(points, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or x.size == 0:
        raise WithinError(f"A curve needs as many losses as points, not {y.shape} for {x.shape}", where=where)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise WithinError("A point or a loss is not a finite number", where=where, todo="measure it again")
    if (np.diff(x) <= 0).any():
        raise WithinError("The points must strictly increase", where=where)
    return x, y
