"""Rulebooks in torch operators, for any device: places are sorted once and looked up by binary search.

The results are those of `rulebook_numba`, pair for pair up to the order within an offset.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

Sizes = tuple[int, ...]


def submanifold(places: Tensor, grid: Sizes, kernel: Sizes, dilation: Sizes) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Returns inputs and outputs of all pairs, and the start of each offset; see `rulebook.submanifold`."""
    keys, order = torch.sort(_keys(places.long(), grid))
    rows = torch.arange(len(keys), device=keys.device)
    half = math.prod(kernel) // 2
    pairs = []
    for offset in itertools.islice(itertools.product(*map(range, kernel)), half):
        move = torch.tensor([(k - size // 2) * d for k, size, d in zip(offset, kernel, dilation, strict=True)])
        moved = places.long().clone()
        moved[:, 1:] += move.to(moved.device)
        inside = ((moved[:, 1:] >= 0) & (moved[:, 1:] < torch.tensor(grid, device=moved.device))).all(1)
        sought = _keys(moved, grid)
        at = torch.searchsorted(keys, sought).clamp_(max=len(keys) - 1)
        met = inside & (keys[at] == sought)
        pairs.append((order[at[met]], rows[met]))
    both = [*pairs, (rows, rows), *((second, first) for first, second in reversed(pairs))]
    return _flat([first for first, _ in both]), _flat([second for _, second in both]), _starts(both)


def strided(
    places: Tensor, batch: int, out_grid: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes
) -> tuple[Tensor, Tensor, tuple[int, ...], Tensor]:
    """Returns inputs, outputs, starts and the places of the outputs; see `rulebook.strided`."""
    wide = places.long()
    device = wide.device
    steps, limits = torch.tensor(stride, device=device), torch.tensor(out_grid, device=device)
    rows, keys = [], []
    for offset in itertools.product(*map(range, kernel)):
        move = torch.tensor([p - k * d for k, p, d in zip(offset, padding, dilation, strict=True)], device=device)
        at = wide[:, 1:] + move
        target = torch.div(at, steps, rounding_mode="floor")
        met = ((at >= 0) & (at % steps == 0) & (target < limits)).all(1)
        rows.append(met.nonzero().flatten())
        keys.append(_keys(torch.cat([wide[met, :1], target[met]], dim=1), out_grid))
    unique, number = torch.unique(torch.cat(keys), sorted=True, return_inverse=True)
    outputs = number.to(torch.int32)
    depth, height, width = out_grid
    layers, x = unique // width, unique % width
    maps, y = layers // height, layers % height
    found = torch.stack([maps // depth, maps % depth, y, x], dim=1).to(torch.int32)
    return _flat(rows), outputs, _starts([(each, each) for each in rows]), found


def _keys(places: Tensor, grid: Sizes) -> Tensor:
    depth, height, width = grid
    return ((places[:, 0] * depth + places[:, 1]) * height + places[:, 2]) * width + places[:, 3]


def _flat(rows: list[Tensor]) -> Tensor:
    return torch.cat(rows).to(torch.int32)


def _starts(pairs: list[tuple[Tensor, Tensor]]) -> tuple[int, ...]:
    return tuple(itertools.accumulate((len(first) for first, _ in pairs), initial=0))
