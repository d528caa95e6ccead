"""The magnitude that a given share of the values does not exceed; the rest is clipped.

The edge where the bin begins in which the cumulative share first reaches the percentile, as in NVIDIA's TensorRT Model
Optimizer; the first bin counts from its end, so that a range is zero only where all values are. Exact to one bin.
"""

from __future__ import annotations

from functools import partial

import torch

from within.core.errors import WithinError
from within.core.quantize.calibrators.histogram import BINS, Histogram
from within.core.quantize.calibrators.histogram_calibrator import HistogramCalibrator


def percentile(
    *, percentile: float = 99.99, bins: int = BINS, axis: int | None = None, name: str = "calibration"
) -> HistogramCalibrator:
    """Returns a calibrator of the percentile of magnitudes.

    Arguments:
        percentile: in percent, above 0 and up to 100.
        bins: of the histogram of the first tensor.
        axis: one range for each index of this axis; None for one range.
        name: what is calibrated, for messages.

    Raises:
        WithinError: when the percentile is out of its range.
    """
    if not 0 < percentile <= 100:
        raise WithinError(f"The percentile is {percentile}", where=name, todo="choose one above 0 and up to 100")
    return HistogramCalibrator(partial(percentile_of, percentile=percentile), bins, axis, name)


def percentile_of(histogram: Histogram, percentile: float) -> float:
    """Returns the edge before the bin in which the cumulative share reaches `percentile` percent, but not zero."""
    counts = histogram.counts.double()
    cumulative = (counts / counts.sum()).cumsum(0)
    bin_ = int(torch.searchsorted(cumulative, torch.tensor(percentile / 100, dtype=torch.float64)))
    return float(histogram.edges[max(bin_, 1)])
