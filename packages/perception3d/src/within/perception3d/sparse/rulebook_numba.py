"""Rulebooks on a CPU, compiled.

Submanifold: the places are sorted once; two rows of the grid are then matched by walking along both, so every pair is
found without a search. Each pair stands for its mirror image as well. Strided: the reached cells are marked in a bit
map, whose running count of ones numbers the outputs in the order of the grid.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

Sizes = tuple[int, ...]


def submanifold(places: Tensor, grid: Sizes, kernel: Sizes, dilation: Sizes) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Returns inputs and outputs of all pairs, and the start of each offset; see `rulebook.submanifold`."""
    indices = places.numpy()
    keys = _keys(indices, grid)
    order = np.arange(len(keys), dtype=np.int32)
    if len(keys) > 1 and not bool((keys[1:] > keys[:-1]).all()):
        order = np.argsort(keys, kind="stable").astype(np.int32)
        keys = keys[order]
    first, second, counts = _match(indices, keys, order, grid, kernel, dilation)
    inputs, outputs, starts = _mirrored(first, second, counts, len(keys), kernel[0] * kernel[1] * kernel[2])
    return torch.from_numpy(inputs), torch.from_numpy(outputs), tuple(starts.tolist())


def strided(
    places: Tensor, batch: int, out_grid: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes
) -> tuple[Tensor, Tensor, tuple[int, ...], Tensor]:
    """Returns inputs, outputs, starts and the places of the outputs; see `rulebook.strided`."""
    inputs, outputs, starts, found = _reach(places.numpy(), batch, out_grid, kernel, stride, padding, dilation)
    return torch.from_numpy(inputs), torch.from_numpy(outputs), tuple(starts.tolist()), torch.from_numpy(found)


def _keys(indices: NDArray[np.int32], grid: Sizes) -> NDArray[np.int64]:
    depth, height, width = grid
    wide = indices.astype(np.int64)
    keys: NDArray[np.int64] = ((wide[:, 0] * depth + wide[:, 1]) * height + wide[:, 2]) * width + wide[:, 3]
    return keys


@njit(cache=True)
def _match(indices, keys, order, grid, kernel, dilation):  # type: ignore[no-untyped-def]
    """Returns, for each offset before the centre, the (input, output) rows that meet under it, and their number."""
    depth, height, width = grid
    half = kernel[0] * kernel[1] * kernel[2] // 2
    count = len(keys)
    first = np.empty((half, count), np.int32)
    second = np.empty((half, count), np.int32)
    counts = np.zeros(half, np.int64)
    reach = (kernel[2] // 2) * dilation[2]
    for row in range(kernel[0] * kernel[1] // 2 + 1):
        dz = (row // kernel[1] - kernel[0] // 2) * dilation[0]
        dy = (row % kernel[1] - kernel[1] // 2) * dilation[1]
        shift = (dz * height + dy) * width
        centre = dz == 0 and dy == 0
        at = 0
        for o in range(count):
            place = order[o]
            z, y, x = indices[place, 1] + dz, indices[place, 2] + dy, indices[place, 3]
            if z < 0 or z >= depth or y < 0 or y >= height:
                continue
            base = keys[o] + shift
            while at < count and keys[at] < base - reach:
                at += 1
            last = base - 1 if centre else base + reach
            i = at
            while i < count and keys[i] <= last:
                dx = keys[i] - base
                if 0 <= x + dx < width and dx % dilation[2] == 0:
                    k = row * kernel[2] + dx // dilation[2] + kernel[2] // 2
                    first[k, counts[k]] = order[i]
                    second[k, counts[k]] = place
                    counts[k] += 1
                i += 1
    return first, second, counts


@njit(cache=True)
def _mirrored(first, second, counts, rows, offsets):  # type: ignore[no-untyped-def]
    """Returns the pairs of all offsets: those before the centre, the centre, and the mirror images."""
    half = len(counts)
    starts = np.zeros(offsets + 1, np.int64)
    for k in range(offsets):
        starts[k + 1] = starts[k] + (counts[k] if k < half else rows if k == half else counts[offsets - 1 - k])
    inputs = np.empty(starts[offsets], np.int32)
    outputs = np.empty(starts[offsets], np.int32)
    for k in range(half):
        inputs[starts[k] : starts[k + 1]] = first[k, : counts[k]]
        outputs[starts[k] : starts[k + 1]] = second[k, : counts[k]]
        mirror = offsets - 1 - k
        inputs[starts[mirror] : starts[mirror + 1]] = second[k, : counts[k]]
        outputs[starts[mirror] : starts[mirror + 1]] = first[k, : counts[k]]
    inputs[starts[half] : starts[half + 1]] = np.arange(rows)
    outputs[starts[half] : starts[half + 1]] = np.arange(rows)
    return inputs, outputs, starts


@njit(cache=True)
def _ones(word):  # type: ignore[no-untyped-def]
    """Returns the number of ones in 64 bits."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (word * np.uint64(0x0101010101010101)) >> np.uint64(56)


@njit(cache=True)
def _reached(place, k, padding, dilation, stride, size):  # type: ignore[no-untyped-def]
    """Returns the output's coordinate along one axis, or -1."""
    at = place + padding - k * dilation
    if at < 0 or at % stride:
        return -1
    at //= stride
    return at if at < size else -1


@njit(cache=True)
def _reach(indices, batch, grid, kernel, stride, padding, dilation):  # type: ignore[no-untyped-def]
    depth, height, width = grid
    one, six, low = np.uint64(1), np.uint64(6), np.uint64(63)
    marks = np.zeros((batch * depth * height * width + 63) // 64, np.uint64)
    offsets = kernel[0] * kernel[1] * kernel[2]
    counts = np.zeros(offsets, np.int64)
    for n in range(len(indices)):
        for kz in range(kernel[0]):
            z = _reached(indices[n, 1], kz, padding[0], dilation[0], stride[0], depth)
            for ky in range(kernel[1]) if z >= 0 else range(0):
                y = _reached(indices[n, 2], ky, padding[1], dilation[1], stride[1], height)
                for kx in range(kernel[2]) if y >= 0 else range(0):
                    x = _reached(indices[n, 3], kx, padding[2], dilation[2], stride[2], width)
                    if x >= 0:
                        key = np.uint64(((np.int64(indices[n, 0]) * depth + z) * height + y) * width + x)
                        marks[key >> six] |= one << (key & low)
                        counts[(kz * kernel[1] + ky) * kernel[2] + kx] += 1
    ranks = np.empty(len(marks), np.int32)
    total = 0
    for w in range(len(marks)):
        ranks[w] = total
        if marks[w]:
            total += np.int64(_ones(marks[w]))
    found = np.empty((total, 4), np.int32)
    row = 0
    for w in range(len(marks)):
        word = marks[w]
        while word:
            lowest = word & (~word + one)
            key = np.int64(w) * 64 + np.int64(_ones(lowest - one))
            found[row, 3] = key % width
            key //= width
            found[row, 2] = key % height
            key //= height
            found[row, 1] = key % depth
            found[row, 0] = key // depth
            row += 1
            word ^= lowest
    starts = np.zeros(offsets + 1, np.int64)
    starts[1:] = np.cumsum(counts)
    inputs = np.empty(starts[offsets], np.int32)
    outputs = np.empty(starts[offsets], np.int32)
    at = starts[:-1].copy()
    for n in range(len(indices)):
        for kz in range(kernel[0]):
            z = _reached(indices[n, 1], kz, padding[0], dilation[0], stride[0], depth)
            for ky in range(kernel[1]) if z >= 0 else range(0):
                y = _reached(indices[n, 2], ky, padding[1], dilation[1], stride[1], height)
                for kx in range(kernel[2]) if y >= 0 else range(0):
                    x = _reached(indices[n, 3], kx, padding[2], dilation[2], stride[2], width)
                    if x >= 0:
                        key = np.uint64(((np.int64(indices[n, 0]) * depth + z) * height + y) * width + x)
                        below = marks[key >> six] & ((one << (key & low)) - one)
                        k = (kz * kernel[1] + ky) * kernel[2] + kx
                        inputs[at[k]] = n
                        outputs[at[k]] = ranks[key >> six] + np.int32(_ones(below))
                        at[k] += 1
    return inputs, outputs, starts, found
