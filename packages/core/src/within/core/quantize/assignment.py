"""Nearest levels of sorted weights for any scale: the sums A and D that every scale search needs.

With c(n) the level nearest to w_n / alpha, the best squared error of this assignment is sum w^2 - A^2 / D with
A = sum w_n c(n), D = sum c(n)^2 (Idelbayev et al., CVPR 2021). Sorted weights w >= 0 with level c_k are one run between
alpha (c_{k-1} + c_k) / 2 and alpha (c_k + c_{k+1}) / 2, so A and D follow from prefix sums, in O(levels x log weights);
where few weights share a scale they are assigned one by one instead. Only middles above zero are ever crossed. Negative
weights are the same problem with mirrored levels; symmetric levels make both one problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from within.core.quantize.codebook import Codebook

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
LOOKUPS = 1 << 22  # positions held at one time
WEIGHTS = 1 << 16  # weights assigned one by one at one time, few enough for the cache
# Nanoseconds, measured: one binary search among rows, and one weight assigned to levels at equal or other distances.
LOOKUP, ROUNDED, SEARCHED = 60.0, 5.0, 25.0


@dataclass(frozen=True)
class Side:
    """Magnitudes of the weights of one sign (or of both), with the levels they can take as alpha > 0 falls.

    Attributes:
        values: magnitudes, ascending within each row; a row is what shares one scale.
        keys: what a search looks through: `values`, or row + i value, which numpy orders by row first.
        starts: where each row starts, and the end of the last.
        counts, count_sums, value_sums: how often each magnitude occurs; prefix sums of that and of count x magnitude.
        levels: from the one nearest to 0+ up to the largest; `middles` between them are all above zero.
    """

    values: Floats
    keys: NDArray[np.generic]
    starts: Integers
    counts: Floats
    count_sums: Floats
    value_sums: NDArray[np.longdouble]
    levels: Floats
    middles: Floats

    @cached_property
    def evenly_spaced(self) -> bool:
        """Whether the levels are 0, 1, 2, ..., so that the nearest is found by rounding."""
        return bool(np.array_equal(self.levels, np.arange(self.levels.size)))

    @cached_property
    def lengths(self) -> Integers:
        """How many magnitudes each row has."""
        return np.diff(self.starts)

    @cached_property
    def matrix(self) -> tuple[Floats, Floats | None] | None:
        """Magnitudes and counts as (rows, the longest row), zeros behind; None where the searches are quicker.

        The counts are None where every magnitude counts once and the zeros behind have no effect.
        """
        lengths = self.lengths
        longest, rows = int(lengths.max(initial=0)), lengths.size
        each = ROUNDED if self.evenly_spaced else SEARCHED
        if rows < 2 or longest * each > self.middles.size * LOOKUP or longest * rows > 2 * self.values.size:
            return None
        inside = np.arange(longest) < lengths[:, None]
        values, counts = np.zeros(inside.shape), np.zeros(inside.shape)
        values[inside], counts[inside] = self.values, self.counts
        return values, None if self.levels[0] == 0 and bool((self.counts == 1).all()) else counts

    def sums_at(self, rows: Integers, alphas: Floats) -> tuple[Floats, Floats, Floats]:
        """Returns A, D and the number of breakpoints at or below alpha, one row and scale a query."""
        if self.matrix is None:
            positions = self.positions(rows, alphas)
            A, D = self.sums(rows, positions)
            return A, D, (positions.sum(1) - self.starts[rows] * self.middles.size).astype(np.float64)
        values, counts = self.matrix[0][rows], self.matrix[1]
        with np.errstate(over="ignore"):  # a row of zeros may ask for the scale 0
            ratio = values / np.maximum(alphas, np.finfo(np.float64).tiny)[:, None]
        if self.evenly_spaced:
            ratio -= 0.5
            place = np.minimum(np.ceil(ratio, out=ratio), self.middles.size, out=ratio)
            levels = place
        else:
            place = np.searchsorted(self.middles, ratio)
            levels = self.levels[place]
        weighted = levels if counts is None else levels * counts[rows]
        below = self.middles.size * self.lengths[rows] - place.sum(1)
        return np.einsum("qn,qn->q", weighted, values), np.einsum("qn,qn->q", weighted, levels), below

    def positions(self, rows: Integers, alphas: Floats) -> Integers:
        """Returns (queries, middles): where in `values` the magnitudes above alpha x middle begin."""
        thresholds = alphas[:, None] * self.middles
        if len(self.starts) == 2:
            return np.searchsorted(self.values, thresholds, side="right")
        queries = np.empty(thresholds.shape, np.complex128)
        queries.real, queries.imag = rows[:, None], thresholds
        return np.searchsorted(self.keys, queries, side="right")

    def sums(self, rows: Integers, positions: Integers) -> tuple[Floats, Floats]:
        """Returns A and D for the assignments that the positions describe."""
        start, end = self.starts[rows], self.starts[rows + 1]
        above = (self.value_sums[end][:, None] - self.value_sums[positions]).astype(np.float64)
        counts = self.count_sums[end][:, None] - self.count_sums[positions]
        lowest = self.levels[0]
        total = (self.value_sums[end] - self.value_sums[start]).astype(np.float64)
        number = self.count_sums[end] - self.count_sums[start]
        squares = np.diff(self.levels**2)
        return lowest * total + above @ np.diff(self.levels), lowest**2 * number + counts @ squares

    def totals(self) -> Floats:
        """Returns the sum of the magnitudes of each row."""
        return (self.value_sums[self.starts[1:]] - self.value_sums[self.starts[:-1]]).astype(np.float64)

    def largest(self) -> Floats:
        """Returns the largest magnitude of each row, zero for an empty one."""
        full = np.diff(self.starts) > 0
        found = np.zeros(full.size)
        found[full] = self.values[self.starts[1:][full] - 1]
        return found


class Best:
    """The best scale seen for each row: what an assignment with sums A and D attains, A / D, gains A^2 / D."""

    def __init__(self, rows: int) -> None:
        self.scales, self.gains = np.zeros(rows), np.zeros(rows)

    def take(self, rows: Integers, A: Floats, D: Floats) -> None:
        """Keeps the best of these assignments for each row; scales that are not positive count for nothing."""
        usable = (A > 0) & (D > 0)
        rows, A, D = rows[usable], A[usable], D[usable]
        gains = A**2 / D
        np.maximum.at(self.gains, rows, gains)
        # Rows whose best is new: where it was reached, the scale follows.
        reached = gains == self.gains[rows]
        self.scales[rows[reached]] = A[reached] / D[reached]


def evaluate(parts: list[Side], rows: Integers, alphas: Floats, best: Best) -> Floats:
    """Assigns the nearest levels at the given scales, one row and scale a query, and offers the assignments to `best`.

    Returns:
        (queries, 4): alpha; the gain 2 alpha A - alpha^2 D by which the squared error at alpha is below sum w^2; D; and
        the number of breakpoints of the row at or below alpha.
    """
    A, D, crossings = np.zeros(rows.size), np.zeros(rows.size), np.zeros(rows.size)
    for side in parts:
        matrix = side.matrix
        held = LOOKUPS // max(1, side.middles.size) if matrix is None else WEIGHTS // max(1, matrix[0].shape[1])
        for first in range(0, rows.size, max(1, held)):
            part = slice(first, first + max(1, held))
            numerator, denominator, below = side.sums_at(rows[part], alphas[part])
            A[part] += numerator
            D[part] += denominator
            crossings[part] += below
    best.take(rows, A, D)
    return np.stack([alphas, 2 * alphas * A - alphas**2 * D, D, crossings], axis=1)


def sides(values: Floats, counts: Floats | None, starts: Integers, codebook: Codebook) -> list[Side]:
    """Returns one side for a symmetric codebook, otherwise the weights from zero up and those below.

    Arguments:
        values: weights, those of a row next to each other.
        counts: how often each occurs; None for once.
        starts: where each row starts, and the end of the last.
    """
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    levels = np.asarray(codebook.levels)
    if codebook.symmetric:
        return [_side(np.abs(values), counts, rows, len(starts) - 1, levels)]
    negative = values < 0
    return [
        _side(sign * values[part], None if counts is None else counts[part], rows[part], len(starts) - 1, reached)
        for sign, part, reached in ((1.0, ~negative, levels), (-1.0, negative, -levels[::-1]))
    ]


def _side(magnitudes: Floats, counts: Floats | None, rows: Integers, number_of_rows: int, levels: Floats) -> Side:
    middles = (levels[1:] + levels[:-1]) / 2
    nearest = int(np.searchsorted(middles, 0.0, side="right"))  # the level that 0+ takes
    starts = np.append(0, np.cumsum(np.bincount(rows, minlength=number_of_rows)))
    if counts is None and np.all(np.diff(starts) == starts[1]):
        # much faster than finding the order
        values, number = np.sort(magnitudes.reshape(number_of_rows, -1)).reshape(-1), np.ones(magnitudes.size)
    else:
        order = np.lexsort((magnitudes, rows))
        values, rows = magnitudes[order], rows[order]
        number = np.ones(values.size) if counts is None else counts[order]
    return Side(
        values,
        values if number_of_rows == 1 else rows + 1j * values,
        starts,
        number,
        np.append(0.0, np.cumsum(number)),
        np.append(np.longdouble(0), np.cumsum((number * values).astype(np.longdouble))),
        levels[nearest:],
        middles[nearest:],
    )
