"""The growing histogram of magnitudes that percentile, squared-error and entropy calibration read.

The first tensor fixes the width of the bins: 2048 of them cover its largest magnitude. When a later tensor reaches
further, bins of the same width are appended; counts add up. These are the bins of NVIDIA's TensorRT Model Optimizer
(modelopt.torch.quantization.calib.HistogramCalibrator), float32 edges included, so that the same tensors give the same
histogram. Three cases differ, in which theirs fails: tensors of zeros before the first other value are counted in the
first bin; counts are integers, not float32, so they do not stop at 2^24; and when the range grows past 32,768 bins,
neighbouring bins are merged in pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 2048
MOST_BINS = 1 << 15
COUNTED_AT_ONCE = 1 << 24  # torch.histc counts in float32


class Histogram:
    """Counts of magnitudes in bins of equal width.

    Attributes:
        counts: (bins,), int64; empty before the first value that is not zero.
        edges: (bins + 1,), float32, from 0 up.
    """

    def __init__(self, bins: int = BINS) -> None:
        self.bins = bins
        self.counts = torch.zeros(0, dtype=torch.int64)
        self.edges = torch.zeros(0)
        self._zeros = 0

    def add(self, magnitudes: Tensor) -> None:
        """Counts values >= 0, a flat float32 tensor without NaN or infinity."""
        largest = magnitudes.max()
        if not self.counts.numel():
            if largest <= 0:
                self._zeros += magnitudes.numel()
                return
            self.edges = torch.linspace(0, float(largest), self.bins + 1)
            self.counts = _count(magnitudes, self.bins, largest)
            self.counts[0] += self._zeros
            return
        if largest > self.edges[-1]:
            self._grow(float(largest))
        counts = _count(magnitudes, self.edges.numel() - 1, self.edges[-1])
        counts[: self.counts.numel()] += self.counts
        self.counts = counts

    def _grow(self, largest: float) -> None:
        while largest / float(self.edges[1]) > MOST_BINS:
            if self.counts.numel() % 2:
                self.counts = torch.cat([self.counts, self.counts.new_zeros(1)])
            self.counts = self.counts.reshape(-1, 2).sum(1)
            self.edges = torch.arange(self.counts.numel() + 1) * (self.edges[1] * 2)
        width = self.edges[1] - self.edges[0]
        number = int((torch.tensor(largest) / width).ceil())
        number += number * float(width) < largest  # the quotient may have been rounded down
        self.edges = torch.arange(0, (number + 0.5) * float(width), float(width))


def _count(magnitudes: Tensor, bins: int, largest: Tensor) -> Tensor:
    counts = torch.zeros(bins, dtype=torch.int64)
    for part in magnitudes.split(COUNTED_AT_ONCE):
        counts += torch.histc(part, bins=bins, min=0, max=float(largest)).long().cpu()
    return counts
