"""Rows of matrices, gathered and added to: compiled, since torch adds row by row through its dispatcher."""

from __future__ import annotations

from numba import njit


@njit(cache=True, boundscheck=False)
def gather(source, rows, low, high, found):  # type: ignore[no-untyped-def]
    """Copies source[rows[low:high]] to the beginning of `found`."""
    for at in range(low, high):
        found[at - low] = source[rows[at]]


@njit(cache=True, boundscheck=False, fastmath=False)
def add(source, rows, low, high, found):  # type: ignore[no-untyped-def]
    """Adds the beginning of `source` to found[rows[low:high]]."""
    columns = source.shape[1]
    for at in range(low, high):
        row = rows[at]
        for column in range(columns):
            found[row, column] += source[at - low, column]
