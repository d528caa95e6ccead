"""Squared errors and refitted scales of weights in any order, from the nearest level of each weight.

Slower than the prefix sums of `assignment`, and without their cancellation: the error is a sum of squares.
"""

from __future__ import annotations

import numpy as np

from within.core.quantize.assignment import Floats
from within.core.quantize.codebook import Codebook
from within.core.quantize.partition import Partition


def squared_errors(parts: Partition, scales: Floats, codebook: Codebook) -> Floats:
    """Returns sum (w - alpha c)^2 over the weights of each scale, c the nearest level."""
    levels, factors = _nearest(parts, scales, codebook)
    return parts.sums((parts.values - factors * levels) ** 2)


def refit(parts: Partition, scales: Floats, codebook: Codebook) -> Floats:
    """Returns A / D = sum w c / sum c^2 of each scale, c the nearest level; the old scale where every c is zero."""
    levels, _ = _nearest(parts, scales, codebook)
    A, D = parts.sums(parts.values * levels), parts.sums(levels**2)
    return np.where(D > 0, A / np.where(D > 0, D, 1.0), scales)


def refitted(parts: Partition, scales: Floats, codebook: Codebook, steps: int) -> tuple[Floats, Floats]:
    """Returns scales refitted to their nearest levels up to so many times, as long as one improves, and the errors."""
    scales, errors = scales.copy(), squared_errors(parts, scales, codebook)
    for _ in range(steps):
        again = refit(parts, scales, codebook)
        found = squared_errors(parts, again, codebook)
        better = found < errors
        if not better.any():
            break
        scales[better], errors[better] = again[better], found[better]
    return scales, errors


def _nearest(parts: Partition, scales: Floats, codebook: Codebook) -> tuple[Floats, Floats]:
    """Returns the nearest level of every weight and the weight's scale."""
    factors = np.repeat(scales, np.diff(parts.starts)) if scales.size > 1 else scales
    ratio = np.divide(parts.values, factors, out=np.zeros_like(parts.values), where=factors != 0)
    levels = np.asarray(codebook.levels)
    steps = np.diff(levels)
    if steps.size and np.all(steps == 1) and levels[0] == np.round(levels[0]):
        return np.clip(np.rint(ratio), levels[0], levels[-1]), factors  # much faster than a search
    return levels[np.searchsorted(np.asarray(codebook.middles), ratio)], factors
