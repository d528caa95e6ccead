"""Calibration from a histogram of magnitudes: observe first, then let a rule choose the range from the counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from within.core.errors import WithinError
from within.core.quantize.calibrators.histogram import BINS, Histogram
from within.core.quantize.calibrators.observed import Observed

START_BIN = 128


class HistogramCalibrator:
    """Collects one histogram, or one for each channel, and chooses ranges from them.

    Arguments:
        select: maps a histogram to the largest magnitude that is not clipped.
        bins: of the histogram of the first tensor.
        axis: one range for each index of this axis; None for one range.
        name: what is calibrated, for messages.
    """

    def __init__(self, select: Callable[[Histogram], float], bins: int, axis: int | None, name: str) -> None:
        self.select, self.bins, self.observed = select, bins, Observed(name, axis)
        self.histograms: list[Histogram] = []

    def observe(self, values: Float[Tensor, "*shape"]) -> None:
        """Takes in a tensor.

        Raises:
            WithinError: when it is empty, holds NaN or infinity, or has another number of channels than before.
        """
        rows = self.observed.add(values)
        if not self.histograms:
            self.histograms = [Histogram(self.bins) for _ in rows]
        for histogram, row in zip(self.histograms, rows):
            histogram.add(row.abs())

    def amax(self) -> Float[Tensor, "*channels"]:
        """Returns the largest magnitude that is not clipped; zero, with a warning, where all values were zero.

        Raises:
            WithinError: when nothing was observed.
        """
        return self._amax(self.observed.range()[0])

    def range(self) -> tuple[Float[Tensor, "*channels"], Float[Tensor, "*channels"]]:
        """Returns the observed smallest and largest value, clipped to plus and minus `amax`, for an affine grid.

        Raises:
            WithinError: when nothing was observed.
        """
        lowest, highest = self.observed.range()
        amax = self._amax(lowest)
        return torch.maximum(lowest, -amax), torch.minimum(highest, amax)

    def _amax(self, like: Tensor) -> Tensor:
        found = [self.select(histogram) if histogram.counts.numel() else 0.0 for histogram in self.histograms]
        return torch.tensor(found, device=like.device).reshape(like.shape)


def bin_search(
    select: Callable[..., float],
    *,
    bits: int = 8,
    unsigned: bool = False,
    start_bin: int = START_BIN,
    stride: int = 1,
    bins: int = BINS,
    axis: int | None = None,
    name: str = "calibration",
) -> HistogramCalibrator:
    """Returns a calibrator that tries one range after another on the histogram.

    Arguments:
        select: maps a histogram and the first four options to the best range.
        bits, unsigned: of the grid: 2^(bits-1) levels of magnitude, or 2^bits when unsigned.
        start_bin, stride: the smallest range, and the step between ranges, in bins.
        bins: of the histogram of the first tensor.
        axis: one range for each index of this axis; None for one range.
        name: what is calibrated, for messages.

    Raises:
        WithinError: when an option is out of its range.
    """
    if not 2 <= bits <= 8:
        raise WithinError(f"A grid of {bits} bits", where=name, todo="choose 2 to 8 bits")
    if not 1 <= start_bin < bins or stride < 1:
        raise WithinError(
            f"The search starts at bin {start_bin} of {bins} with a stride of {stride}",
            where=name,
            todo="start at bin 1 or later, before the last, and use a stride of at least 1",
        )
    search = partial(select, bits=bits, unsigned=unsigned, start_bin=start_bin, stride=stride)
    return HistogramCalibrator(search, bins, axis, name)
