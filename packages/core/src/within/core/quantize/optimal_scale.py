"""The scale alpha with the least squared error of weights on a codebook: the global optimum, certified.

    min over alpha of  L(alpha) = sum_n min_k (w_n - alpha c_k)^2

(Idelbayev, Molchanov, Shen, Yin, Carreira-Perpinan, Alvarez, Optimal Quantization using Scaled Codebook, CVPR 2021.) As
alpha grows, weight n changes from level k + 1 to k at its breakpoint 2 w_n / (c_k + c_{k+1}); between breakpoints the
assignment is fixed, its best scale is A / D and its best error sum w^2 - A^2 / D, with A = sum w c and D = sum c^2. The
paper sorts and sweeps all N K breakpoints. Here `narrowing` first drops every interval of scales that a bound proves to
hold nothing better, and `sweep` visits the breakpoints that are left; the result is that of the full sweep, up to
rounding in float64.

A smaller squared error is not a higher accuracy. ResNet-20 on the first 1000 CIFAR test images, weights per channel, no
re-estimation of batch norms: int3 with optimal scales 46.4 %, with absolute maxima 62.3 %, in floating point 80.4 %.
Test the accuracy.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from within.core.errors import WithinError
from within.core.quantize.assignment import Best, Floats, Side, sides
from within.core.quantize.codebook import Codebook, arbitrary
from within.core.quantize.narrowing import narrow
from within.core.quantize.partition import Partition, count_in_bins, partition
from within.core.quantize.residuals import refitted
from within.core.quantize.sweep import sweep

HISTOGRAM_FROM = 10_000_000  # weights that share one scale, above which they are counted in bins
HISTOGRAM_BINS = 1 << 20
SWEPT_AT_ONCE = 1 << 6  # a row with no more breakpoints is swept whole
REFITS = 4


def optimal_scale(
    weights: Float[Tensor, "*shape"],
    codebook: Codebook,
    *,
    axis: int | None = None,
    group_size: int | None = None,
    histogram_bins: int | None = None,
) -> tuple[Float[Tensor, "*scales"], Float[Tensor, "*scales"]]:
    """Returns the scale with the least squared error, and that error (float64, in the unit of the weights squared).

    Arguments:
        weights: any shape.
        codebook: the levels. When they are not symmetric the scale may be negative.
        axis: one scale for each index of this axis; None for one scale.
        group_size: one scale for each run of this many weights along the flattened other axes.
        histogram_bins: count the weights that share a scale in this many bins of their range, search with each weight
            moved to the mean of its bin, then refit on the weights themselves. The root of the error is within
            sqrt(sum of squared moves) of the least. Default: no bins up to 10,000,000 weights a scale, then 2^20.

    Returns:
        Both with shape (), (axis,), (groups,) or (axis, groups). Where all weights are zero the error is zero and the
        scale is 1, or 0 when zero is not a level.

    Raises:
        WithinError: when there are no weights, one is NaN or infinite, or an option does not fit.
    """
    parts = partition(weights, axis, group_size)
    if histogram_bins is not None and histogram_bins < 1:
        raise WithinError(f"The number of bins is {histogram_bins}", where="histogram_bins", todo="give one or more")
    bins = histogram_bins
    if bins is None and int(np.diff(parts.starts).max()) > HISTOGRAM_FROM:
        bins = HISTOGRAM_BINS
    values, counts, starts = (parts.values, None, parts.starts) if bins is None else count_in_bins(parts, bins)
    scales, gains = np.zeros(len(parts.starts) - 1), np.zeros(len(parts.starts) - 1)
    for sign in (1.0,) if codebook.symmetric else (1.0, -1.0):
        signed = arbitrary([sign * level for level in codebook.levels], codebook.name)
        best = _best_positive(sides(values, counts, starts, signed))
        better = best.gains > gains
        scales[better], gains[better] = sign * best.scales[better], best.gains[better]
    if 0.0 in codebook.levels:
        scales[gains == 0] = 1.0  # only where all weights are zero
    # the found assignment is that of the found scale up to rounding, or up to the bins
    scales, errors = refitted(parts, scales, codebook, REFITS)
    return _shaped(scales, parts, weights), _shaped(errors, parts, weights)


def _best_positive(parts: list[Side]) -> Best:
    """Returns the best scale > 0 of every row."""
    rows = len(parts[0].starts) - 1
    breakpoints = np.sum([np.diff(side.starts) * side.middles.size for side in parts], axis=0)
    whole = np.flatnonzero(breakpoints <= SWEPT_AT_ONCE)
    best = Best(rows)
    sweep(parts, whole, np.zeros(whole.size), np.full(whole.size, np.inf), best)
    sweep(parts, *narrow(parts, np.flatnonzero(breakpoints > SWEPT_AT_ONCE), best), best)
    return best


def _shaped(numbers: Floats, parts: Partition, weights: Tensor) -> Tensor:
    return torch.from_numpy(numbers.copy()).reshape(parts.shape).to(weights.device)
