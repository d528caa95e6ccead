"""Which weights share one scale: the whole tensor, one index of an axis, or a run of consecutive weights in it.

A scale per tensor is a scalar; per channel it has the length of the axis; per group it has one entry for each run of
`group_size` weights, counted along the flattened other axes (the last run of a channel may be shorter).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from within.core.errors import WithinError


@dataclass(frozen=True)
class Partition:
    """Weights in the order of the scales they share.

    Attributes:
        values: all weights, float64, those of one scale next to each other.
        starts: where the weights of each scale start in `values`, and the end of the last.
        shape: of the scales.
    """

    values: NDArray[np.float64]
    starts: NDArray[np.int64]
    shape: tuple[int, ...]

    def sums(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the sum of one number a weight over the weights of each scale."""
        if len(self.starts) == 2:
            return numbers.sum(keepdims=True)  # pairwise: more exact than a running sum
        return np.add.reduceat(numbers, self.starts[:-1])


def partition(weights: Tensor, axis: int | None, group_size: int | None) -> Partition:
    """Groups weights by the scale they share.

    Raises:
        WithinError: when there are no weights, one is NaN or infinite, or the axis or group size does not fit.
    """
    if weights.numel() == 0:
        raise WithinError(f"There are no weights in a tensor of shape {tuple(weights.shape)}", todo="leave it out")
    finite = torch.isfinite(weights)
    if not finite.all():
        position = tuple(torch.nonzero(~finite)[0].tolist())
        raise WithinError(
            f"{int((~finite).sum())} weights are NaN or infinite", where=f"first at {position}", todo="repair the model"
        )
    matrix = _matrix(weights.detach().cpu().double(), axis)
    channels, length = matrix.shape
    size = _checked_group_size(group_size) or length
    groups = -(-length // size)
    starts = np.minimum(np.arange(groups) * size, length) + length * np.arange(channels)[:, None]
    shape = (*([] if axis is None else [channels]), *([] if group_size is None else [groups]))
    return Partition(matrix.reshape(-1).numpy(), np.append(starts.reshape(-1), matrix.numel()), shape)


def expand(scale: Tensor, weights: Tensor, axis: int | None, group_size: int | None) -> Tensor:
    """Returns the scale of every weight, in a shape that broadcasts with `weights`.

    Raises:
        WithinError: when the shape of the scale is not the one that the options give.
    """
    matrix = _matrix(weights, axis)
    channels, length = matrix.shape
    size = _checked_group_size(group_size) or max(length, 1)
    groups = -(-length // size)
    expected = (*([] if axis is None else [channels]), *([] if group_size is None else [groups]))
    if tuple(scale.shape) != expected:
        raise WithinError(
            f"The scale has shape {tuple(scale.shape)} where axis={axis} and group_size={group_size} need {expected}",
            where=f"weights of shape {tuple(weights.shape)}",
            todo="pass the axis and group size that the scale was computed with",
        )
    if not expected:
        return scale
    columns = torch.arange(length, device=scale.device) // size
    whole = scale.reshape(channels, groups)[:, columns]
    if axis is None:
        return whole.reshape(weights.shape)
    rest = [extent for dim, extent in enumerate(weights.shape) if dim != axis % weights.dim()]
    return whole.reshape(channels, *rest).movedim(0, axis)


def count_in_bins(parts: Partition, bins: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Counts the weights of each scale in bins of equal width over their range.

    Returns:
        The mean of the weights in every bin that is not empty, how many they are, and where each scale's bins start.
    """
    values, counts, lengths = [], [], []
    for low, high in zip(parts.starts, parts.starts[1:]):
        row = parts.values[low:high]
        least, largest = row.min(), row.max()
        width = (largest - least) / bins or 1.0
        index = np.minimum(((row - least) / width).astype(np.int64), bins - 1)
        number = np.bincount(index)
        used = number > 0
        values.append(np.bincount(index, row)[used] / number[used])
        counts.append(number[used].astype(np.float64))
        lengths.append(int(used.sum()))
    return np.concatenate(values), np.concatenate(counts), np.append(0, np.cumsum(lengths))


def _matrix(weights: Tensor, axis: int | None) -> Tensor:
    """Returns the weights as (scales along the axis, all others)."""
    if axis is None:
        return weights.reshape(1, -1)
    if not -weights.dim() <= axis < weights.dim():
        raise WithinError(f"There is no axis {axis} in a tensor of shape {tuple(weights.shape)}", where="axis")
    return weights.movedim(axis, 0).reshape(weights.shape[axis], -1)


def _checked_group_size(group_size: int | None) -> int | None:
    if group_size is not None and group_size < 1:
        raise WithinError(f"The group size is {group_size}", where="group_size", todo="give a whole number from 1 on")
    return group_size
