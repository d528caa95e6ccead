"""Rows of matrices, gathered and added to: compiled, since torch adds row by row through its dispatcher."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, boundscheck=False)
def gather(source, rows, low, high, found):  # type: ignore[no-untyped-def]
    """Copies source[rows[low:high]] to the beginning of `found`."""
    columns = source.shape[1]
    for at in range(low, high):
        row = rows[at]
        for column in range(columns):  # a third of the time of assigning rows
            found[at - low, column] = source[row, column]


@njit(cache=True, boundscheck=False, fastmath=False)
def add(source, rows, low, high, found):  # type: ignore[no-untyped-def]
    """Adds the beginning of `source` to found[rows[low:high]]."""
    columns = source.shape[1]
    for at in range(low, high):
        row = rows[at]
        for column in range(columns):
            found[row, column] += source[at - low, column]


@njit(cache=True, boundscheck=False)
def add_neighbours(products, neighbours, found):  # type: ignore[no-untyped-def]
    """Adds to each row what its neighbours hold for it: the columns of their products that belong to the offset."""
    columns = found.shape[1]
    for row in range(neighbours.shape[0]):
        for offset in range(neighbours.shape[1]):
            read, first = neighbours[row, offset], offset * columns
            if read >= 0:
                for column in range(columns):
                    found[row, column] += products[read, first + column]


@njit(cache=True, boundscheck=False, fastmath=True)
def add_one_to_one(source, neighbours, weight, found):  # type: ignore[no-untyped-def]
    """Adds what neighbours give where each channel goes to one: weight[offset, channel]."""
    for row in range(neighbours.shape[0]):
        for offset in range(neighbours.shape[1]):
            read = neighbours[row, offset]
            if read >= 0:
                for channel in range(source.shape[1]):
                    found[row, channel] += source[read, channel] * weight[offset, channel]


@njit(cache=True, boundscheck=False, fastmath=True)
def add_one_to_two(source, neighbours, weight, found):  # type: ignore[no-untyped-def]
    """Adds what neighbours give where each channel goes to two: weight[offset, output]. A loop over two is slower."""
    for row in range(neighbours.shape[0]):
        for offset in range(neighbours.shape[1]):
            read = neighbours[row, offset]
            if read >= 0:
                for channel in range(source.shape[1]):
                    value = source[read, channel]
                    found[row, 2 * channel] += value * weight[offset, 2 * channel]
                    found[row, 2 * channel + 1] += value * weight[offset, 2 * channel + 1]


@njit(cache=True, boundscheck=False, fastmath=True)
def add_two_to_one(source, neighbours, weight, found):  # type: ignore[no-untyped-def]
    """Adds what neighbours give where two channels go to one: weight[offset, input]."""
    for row in range(neighbours.shape[0]):
        for offset in range(neighbours.shape[1]):
            read = neighbours[row, offset]
            if read >= 0:
                for channel in range(found.shape[1]):
                    one = source[read, 2 * channel] * weight[offset, 2 * channel]
                    found[row, channel] += one + source[read, 2 * channel + 1] * weight[offset, 2 * channel + 1]


@njit(cache=True, boundscheck=False)
def pairs_towards(inputs, outputs, starts, numbers):  # type: ignore[no-untyped-def]
    """Returns the pairs whose output has a number, with it in place of its row, and the start of each offset."""
    offsets = len(starts) - 1
    found = np.zeros(offsets + 1, np.int64)
    reads, writes = np.empty_like(inputs), np.empty_like(outputs)
    at = 0
    for offset in range(offsets):
        for pair in range(starts[offset], starts[offset + 1]):
            number = numbers[outputs[pair]]
            if number >= 0:
                reads[at], writes[at] = inputs[pair], number
                at += 1
        found[offset + 1] = at
    return reads[:at].copy(), writes[:at].copy(), found


@njit(cache=True, boundscheck=False)
def largest(source, rows, found):  # type: ignore[no-untyped-def]
    """Raises found[rows] to `source` where that is larger."""
    for at in range(len(rows)):
        row = rows[at]
        for column in range(source.shape[1]):
            found[row, column] = max(found[row, column], source[at, column])


@njit(cache=True, boundscheck=False)
def table(reads, writes, starts, rows):  # type: ignore[no-untyped-def]
    """Returns for each row that is written, and each offset, the row that is read; -1 where there is none."""
    offsets = len(starts) - 1
    found = np.full((rows, offsets), -1, np.int32)
    for offset in range(offsets):
        for at in range(starts[offset], starts[offset + 1]):
            found[writes[at], offset] = reads[at]
    return found
