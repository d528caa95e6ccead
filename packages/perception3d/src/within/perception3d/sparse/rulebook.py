"""Rulebooks of sparse convolution: which input row meets which output row under each offset of the kernel.

    submanifold     outputs are at the inputs' places;  i = o + (k - r) dilation
    strided         outputs are wherever an input reaches;  o stride = i + padding - k dilation
    inverse         the pairs of a strided one, the other way round

Graham, Engelcke, van der Maaten: 3D Semantic Segmentation with Submanifold Sparse Convolutional Networks, CVPR 2018.
Maps of two axes are handled as three with one layer. Offsets are numbered as in a dense kernel, the last axis fastest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int32, Int64
from numpy.typing import NDArray
from torch import Tensor

from within.core.errors import WithinError
from within.perception3d.sparse import rows_numba, rulebook_numba, rulebook_torch

Sizes = tuple[int, ...]
SLICE = 2048  # pairs: fewer make small products slow, more leave the cache
MOST_CELLS = 2**34  # of the output grid, for which a bit map (2 GiB) is still sensible


@dataclass(frozen=True, eq=False)
class Rulebook:
    """The pairs of one convolution.

    Attributes:
        inputs, outputs: rows of each pair, the pairs of one offset after those of the other.
        starts: of each offset in them, and their number at the end.
        out_indices: places of the outputs: batch and coordinates.
        out_shape: grid of the outputs.
        in_rows: number of inputs.
        identity: the offset under which every row meets itself, or None; its pairs are listed as well.
        tables: found by `neighbours`.
    """

    inputs: Int32[Tensor, " pairs"] = field(repr=False)
    outputs: Int32[Tensor, " pairs"] = field(repr=False)
    starts: Sizes
    out_indices: Int32[Tensor, "outputs axes"] = field(repr=False)
    out_shape: Sizes
    in_rows: int
    identity: int | None = None
    tables: dict[bool, NDArray[np.int32]] = field(default_factory=dict, repr=False)

    @property
    def pairs(self) -> int:
        """Number of pairs; times channels in and out they are the multiply-accumulates of a convolution."""
        return self.starts[-1]

    @property
    def out_rows(self) -> int:
        """Number of outputs."""
        return int(self.out_indices.shape[0])

    @cached_property
    def slices(self) -> list[list[tuple[int, int, int]]]:
        """Runs of pairs to be handled together, as (offset, first, last) without gaps; the identity is left out."""
        found: list[list[tuple[int, int, int]]] = []
        for k in range(len(self.starts) - 1):
            first, last = self.starts[k], self.starts[k + 1]
            while first < last and k != self.identity:
                run = found[-1] if found else []
                if not run or run[-1][2] != first or first - run[0][1] >= SLICE:
                    run = []
                    found.append(run)
                end = min(last, (run[0][1] if run else first) + SLICE)
                run.append((k, first, end))
                first = end
        return found

    @property
    def longest(self) -> int:
        """Pairs of the longest slice."""
        return max((run[-1][2] - run[0][1] for run in self.slices), default=0)

    def neighbours(self, back: bool) -> Int32[np.ndarray, "rows offsets"]:
        """Returns the input under each offset for each output, -1 where there is none; `back`, the other way round."""
        if back not in self.tables:
            reads, writes = (self.outputs, self.inputs) if back else (self.inputs, self.outputs)
            rows = self.in_rows if back else self.out_rows
            self.tables[back] = rows_numba.table(reads.numpy(), writes.numpy(), np.array(self.starts), rows)
        return self.tables[back]

    def towards(self, rows: Int64[Tensor, " some"]) -> Rulebook:
        """Returns the pairs of some outputs, in this order; what no pair needs is not computed.

        Arguments:
            rows: of the outputs.
        """
        numbers = torch.full((self.out_rows,), -1, dtype=torch.int32, device=rows.device)
        numbers[rows] = torch.arange(len(rows), dtype=torch.int32, device=rows.device)
        if rows.device.type == "cpu":
            arrays = self.inputs.numpy(), self.outputs.numpy(), np.array(self.starts), numbers.numpy()
            reads, writes, starts = rows_numba.pairs_towards(*arrays)
            inputs, outputs, first = torch.from_numpy(reads), torch.from_numpy(writes), tuple(starts.tolist())
        else:
            targets = numbers[self.outputs.long()]
            there = targets >= 0
            inputs, outputs = self.inputs[there], targets[there]
            running = torch.cat([there.new_zeros(1, dtype=torch.int64), there.cumsum(0)])
            first = tuple(running[list(self.starts)].tolist())
        return Rulebook(inputs, outputs, first, self.out_indices[rows], self.out_shape, self.in_rows)

    def inverse(self, indices: Int32[Tensor, "inputs axes"], shape: Sizes) -> Rulebook:
        """Returns the pairs the other way round: from the outputs back to the inputs at `indices`."""
        return Rulebook(self.outputs, self.inputs, self.starts, indices, shape, self.out_rows, self.identity)


def submanifold(
    indices: Int32[Tensor, "voxels axes"], shape: Sizes, batch: int, kernel_size: Sizes, dilation: Sizes
) -> Rulebook:
    """Returns the rulebook of a submanifold convolution.

    Raises:
        WithinError: when a side of the kernel is even.
    """
    if any(size % 2 == 0 for size in kernel_size):
        raise WithinError(f"A submanifold kernel of {kernel_size} has no centre", todo="take odd sizes")
    places, grid, kernel, step = _three(indices, shape, kernel_size, dilation)
    find = rulebook_numba.submanifold if indices.device.type == "cpu" else rulebook_torch.submanifold
    inputs, outputs, starts = find(places, grid, kernel, step)
    return Rulebook(inputs, outputs, starts, indices, shape, len(indices), math.prod(kernel_size) // 2)


def strided(
    indices: Int32[Tensor, "voxels axes"],
    shape: Sizes,
    batch: int,
    kernel_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
) -> Rulebook:
    """Returns the rulebook of an ordinary sparse convolution; outputs are in the order of the grid.

    Raises:
        WithinError: when the output grid has no cells.
    """
    out_shape = tuple(map(out_size, shape, kernel_size, stride, padding, dilation))
    if min(out_shape) < 1:
        raise WithinError(f"A kernel of {kernel_size} with stride {stride} leaves nothing of a grid of {shape}")
    places, _, kernel, step = _three(indices, shape, kernel_size, dilation)
    two = len(shape) == 2
    strides, pads = ((1, *stride), (0, *padding)) if two else (stride, padding)
    out_grid = (1, *out_shape) if two else out_shape
    on_cpu = indices.device.type == "cpu" and batch * math.prod(out_grid) <= MOST_CELLS
    find = rulebook_numba.strided if on_cpu else rulebook_torch.strided
    inputs, outputs, starts, found = find(places, batch, out_grid, kernel, strides, pads, step)
    out_indices = found[:, [0, 2, 3]].contiguous() if two else found
    return Rulebook(inputs, outputs, starts, out_indices, out_shape, len(indices))


def out_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Returns the output's extent along one axis, as of a dense convolution."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def brute_force(
    indices: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]], kernel_size: Sizes, stride: Sizes,
    padding: Sizes, dilation: Sizes,
) -> set[tuple[int, int, int]]:  # fmt: skip
    """Returns (offset, input, output) by the definition, for tests; slow."""
    where = {tuple(place): row for row, place in enumerate(outputs)}
    found = set()
    for row, (batch, *place) in enumerate(indices):
        for number, offset in enumerate(itertools.product(*map(range, kernel_size))):
            reached = [place[a] + padding[a] - offset[a] * dilation[a] for a in range(len(place))]
            if all(value % stride[a] == 0 for a, value in enumerate(reached)):
                target = (batch, *(value // stride[a] for a, value in enumerate(reached)))
                if target in where:
                    found.add((number, row, where[target]))
    return found


def _three(indices: Tensor, shape: Sizes, kernel_size: Sizes, dilation: Sizes) -> tuple[Tensor, Sizes, Sizes, Sizes]:
    """Returns places, grid, kernel and dilation with three axes."""
    if len(shape) == 3:
        return indices, shape, kernel_size, dilation
    layer = torch.zeros_like(indices[:, :1])
    return torch.cat([indices[:, :1], layer, indices[:, 1:]], dim=1), (1, *shape), (1, *kernel_size), (1, *dilation)
