"""The range with the least squared error of the values on a symmetric integer grid.

    amax = argmin over bin centres m of  sum_i count_i (centre_i - Q(centre_i; scale = m / Q_max))^2

as in NVIDIA's TensorRT Model Optimizer: candidates are the centres from bin 128 on, and the first least one is taken.
For the optimum over all scales and the values themselves see `quantize.optimal_scale`.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from within.core.quantize.assignment import Best, evaluate, sides
from within.core.quantize.calibrators.histogram import Histogram
from within.core.quantize.calibrators.histogram_calibrator import START_BIN, bin_search
from within.core.quantize.codebook import arbitrary


def least_squared_error(
    histogram: Histogram, *, bits: int = 8, unsigned: bool = False, start_bin: int = START_BIN, stride: int = 1
) -> float:
    """Returns the bin centre that, taken as the largest value of the grid, gives the least squared error."""
    edges = histogram.edges.double().numpy()
    centres = (edges[1:] + edges[:-1]) / 2
    largest = 2 ** (bits - 1 + int(unsigned)) - 1
    levels = arbitrary(range(-largest, largest + 1))
    starts = np.array([0, centres.size])
    parts = sides(centres, histogram.counts.double().numpy(), starts, levels)
    candidates = centres[start_bin::stride]
    found = evaluate(parts, np.zeros(candidates.size, np.int64), candidates / largest, Best(1))
    return float(candidates[found[:, 1].argmax()])  # the largest gain is the least error


mse = partial(bin_search, least_squared_error)
