"""The range that keeps most information: least Kullback-Leibler divergence between the values before and after.

For every range of the first i bins, P is the histogram of these bins with all counts beyond added to the last one. Q is
these bins collapsed to the 2^(bits-1) levels of the grid and spread evenly over those that are not empty:

    amax = edge_i,  i = last argmin over i of  sum P log(P / Q),   both normalised

(Migacz, 8-bit inference with TensorRT, GTC 2017, in the variant of NVIDIA's TensorRT Model Optimizer: bin 0 first takes
the count of bin 1, and the tail is no part of Q.) All i are computed at once from prefix sums.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from within.core.quantize.calibrators.histogram import Histogram
from within.core.quantize.calibrators.histogram_calibrator import START_BIN, bin_search

TIE = 1e-12


def least_divergence(
    histogram: Histogram, *, bits: int = 8, unsigned: bool = False, start_bin: int = START_BIN, stride: int = 1
) -> float:
    """Returns the edge of the range with the least divergence, the last one of equal ranges."""
    counts = histogram.counts.double().numpy().copy()
    counts[0] = counts[1]
    ranges = np.arange(start_bin, counts.size + 1, stride)
    found = divergences(counts, ranges, 2 ** (bits - 1 + int(unsigned)))
    if not np.isfinite(found).any():
        return float(histogram.edges[-1])
    last = np.flatnonzero(found <= found.min() + TIE)[-1]
    return float(histogram.edges[ranges[last]])


entropy = partial(bin_search, least_divergence)


def divergences(counts: np.ndarray, ranges: np.ndarray, levels: int) -> np.ndarray:
    """Returns KL(P || Q) for the first i bins of every i in `ranges`; infinite where Q is zero and P is not.

    Arguments:
        counts: (bins,), how many values each bin holds.
        ranges: (ranges,), numbers of bins i.
        levels: into how many levels the bins are collapsed: bin j goes to level floor(j levels / i).
    """
    sums, used = np.append(0.0, np.cumsum(counts)), np.append(0, np.cumsum(counts > 0))
    own = np.append(0.0, np.cumsum(_x_log_x(counts)))
    tail, last = sums[-1] - sums[ranges], counts[ranges - 1]
    first = -(-np.arange(levels + 1) * ranges[:, None] // levels)  # the first bin of each level: ceil(k i / levels)
    held = sums[first[:, 1:]] - sums[first[:, :-1]]
    spread = np.maximum(used[first[:, 1:]] - used[first[:, :-1]], 1)
    logarithm = np.log(np.where(held > 0, held / spread, 1.0))
    P_log_P = own[ranges] - _x_log_x(last) + _x_log_x(last + tail)
    level_of_last = (ranges - 1) * levels // ranges
    P_log_Q = (held * logarithm).sum(1) + tail * logarithm[np.arange(ranges.size), level_of_last]
    inside = sums[ranges]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (P_log_P - P_log_Q) / sums[-1] - np.log(sums[-1]) + np.log(inside)
    return np.where((inside > 0) & ((last > 0) | (tail == 0)), found, np.inf)


def _x_log_x(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x * np.log(np.where(x > 0, x, 1.0)), 0.0)
