"""Rows that belong to one cell of a coarser grid: which they are, their largest features, and their sums."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from within.perception3d.sparse import rows_numba
from within.perception3d.sparse.convolution import is_compiled
from within.perception3d.sparse.rulebook import MOST_CELLS

Sizes = tuple[int, ...]


def cells_of(
    places: Int32[Tensor, "voxels axes"], batch: int, shape: Sizes
) -> tuple[Int64[Tensor, " voxels"], Int32[Tensor, "cells axes"]]:
    """Returns the row of each place's cell, and the cells that occur, in the order of the grid.

    Arguments:
        places: batch and coordinates; several may be equal.
        batch, shape: of the grid.
    """
    sizes = (batch, *shape)
    keys = places[:, 0].long()
    for axis, size in enumerate(shape, start=1):
        keys = keys * size + places[:, axis]
    count = math.prod(sizes)
    if count > MOST_CELLS // 2**6:
        found, rows = torch.unique(keys, return_inverse=True)
    else:
        there = torch.zeros(count, dtype=torch.bool, device=keys.device)
        there[keys] = True
        found = there.nonzero()[:, 0]
        numbers = torch.empty(count, dtype=torch.int64, device=keys.device)
        numbers[found] = torch.arange(len(found), device=keys.device)
        rows = numbers[keys]
    columns = torch.unravel_index(found, sizes)
    return rows, torch.stack(columns, dim=1).int()


def largest_by_row(
    features: Float[Tensor, "voxels channels"], rows: Int64[Tensor, " voxels"], count: int
) -> Float[Tensor, "rows channels"]:
    """Returns the largest feature of each channel among those of one row."""
    found = features.new_full((count, features.shape[1]), -torch.inf)
    if _is_direct(features):
        rows_numba.largest(features.detach().contiguous().numpy(), rows.numpy(), found.numpy())
        return found
    return found.scatter_reduce(0, rows[:, None].expand_as(features), features, "amax")


def sum_by_row(
    features: Float[Tensor, "voxels channels"], rows: Int64[Tensor, " voxels"], count: int
) -> Float[Tensor, "rows channels"]:
    """Returns the sum of each channel over those of one row."""
    found = features.new_zeros(count, features.shape[1])
    if _is_direct(features):
        rows_numba.add(features.detach().contiguous().numpy(), rows.numpy(), 0, len(rows), found.numpy())
        return found
    return found.index_add(0, rows, features)


def _is_direct(features: Tensor) -> bool:
    """Whether no gradient is asked for and compiled functions take the rows."""
    return is_compiled(features) and not (torch.is_grad_enabled() and features.requires_grad)
