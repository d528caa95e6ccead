"""What no other one beats: the Pareto front of a set of objective vectors, fronts behind it, and how crowded they are.

All objectives are to be high; turn the sign of costs. Deb, Pratap, Agarwal, Meyarivan: A Fast and Elitist
Multiobjective Genetic Algorithm: NSGA-II, IEEE TEC 2002.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from within.core.errors import WithinError


def pareto_front(values: Float[np.ndarray, "points objectives"]) -> Bool[np.ndarray, " points"]:
    """Returns which points no other point beats: as high in all objectives and higher in one. Equal points stay.

    Raises:
        WithinError: when a value is NaN.
    """
    found = np.asarray(values, dtype=np.float64)
    if np.isnan(found).any():
        raise WithinError("An objective is NaN", where=f"point {np.argwhere(np.isnan(found))[0][0]}")
    order = np.lexsort(-found.T[::-1])  # by the first objective, ties by the second, ...; only earlier ones can beat
    kept: list[int] = []
    for row in order.tolist():
        others = found[kept]
        beaten = (others >= found[row]).all(1) & (others > found[row]).any(1)
        if not beaten.any():
            kept.append(row)
    front = np.zeros(len(found), dtype=bool)
    front[kept] = True
    return front


def fronts(values: Float[np.ndarray, "points objectives"]) -> Int[np.ndarray, " points"]:
    """Returns the number of each point's front: 0 for the Pareto front, 1 for that of the others, and so on."""
    found = np.asarray(values, dtype=np.float64)
    numbers = np.full(len(found), -1)
    number = 0
    while (numbers < 0).any():
        rows = np.flatnonzero(numbers < 0)
        numbers[rows[pareto_front(found[rows])]] = number
        number += 1
    return numbers


def crowding(values: Float[np.ndarray, "points objectives"]) -> Float[np.ndarray, " points"]:
    """Returns how far apart each point's neighbours on both sides are, summed over objectives; the ends are infinite.

    Distances are in units of the objective's range.
    """
    found = np.asarray(values, dtype=np.float64)
    distance = np.zeros(len(found))
    for column in found.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]] if len(order) else 0.0
        distance[order[:1]] = distance[order[-1:]] = np.inf
        if len(order) > 2 and span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance


def best_first(values: Float[np.ndarray, "points objectives"]) -> Int[np.ndarray, " points"]:
    """Returns the rows of the points: front by front, in each the least crowded first."""
    found = np.asarray(values, dtype=np.float64)
    numbers = fronts(found)
    apart = np.zeros(len(found))
    for number in range(numbers.max(initial=-1) + 1):
        rows = np.flatnonzero(numbers == number)
        apart[rows] = crowding(found[rows])
    return np.lexsort((-apart, numbers))


def hypervolume(values: Float[np.ndarray, "points 2"], reference: tuple[float, float]) -> float:
    """Returns the area that points of two objectives beat, above a reference point."""
    found = np.asarray(values, dtype=np.float64)
    better = found[(found > reference).all(1)]
    better = better[pareto_front(better)] if len(better) else better
    order = better[np.argsort(-better[:, 0])]
    area, height = 0.0, reference[1]
    for first, second in order:
        area += (first - reference[0]) * max(second - height, 0.0)
        height = max(height, second)
    return float(area)
