"""Calibrators: which range of values a grid covers, from the values that were seen.

A calibrator observes tensors and then tells the largest magnitude that is not clipped (`amax`, for symmetric grids) or
the ends of the range (`range`, for affine ones):

    max              the largest magnitude                       maximum.py
    moving_average   moving average of each tensor's range       moving_average.py
    percentile       a share of the values is clipped            percentile.py
    mse              least squared error on the grid             mse.py
    entropy          least Kullback-Leibler divergence           entropy.py
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor

from within.core.errors import WithinError
from within.core.quantize.calibrators.entropy import entropy
from within.core.quantize.calibrators.histogram import Histogram
from within.core.quantize.calibrators.histogram_calibrator import HistogramCalibrator
from within.core.quantize.calibrators.maximum import Maximum
from within.core.quantize.calibrators.moving_average import MovingAverage
from within.core.quantize.calibrators.mse import mse
from within.core.quantize.calibrators.percentile import percentile

__all__ = [
    "CALIBRATORS",
    "Calibrator",
    "Histogram",
    "HistogramCalibrator",
    "Maximum",
    "MovingAverage",
    "calibrator",
    "entropy",
    "mse",
    "percentile",
]


class Calibrator(Protocol):
    """What every calibrator does."""

    def observe(self, values: Float[Tensor, "*shape"]) -> None:
        """Takes in a tensor; raises `WithinError` when it is empty or holds NaN or infinity."""

    def amax(self) -> Float[Tensor, "*channels"]:
        """Returns the largest magnitude that is not clipped; raises `WithinError` when nothing was observed."""

    def range(self) -> tuple[Float[Tensor, "*channels"], Float[Tensor, "*channels"]]:
        """Returns the smallest and largest value that are not clipped; raises like `amax`."""


CALIBRATORS: dict[str, Callable[..., Calibrator]] = {
    "max": Maximum,
    "moving_average": MovingAverage,
    "percentile": percentile,
    "mse": mse,
    "entropy": entropy,
}


def calibrator(name: str, /, **options: Any) -> Calibrator:
    """Returns a new calibrator by its name; the options are those of its constructor.

    Raises:
        WithinError: when there is no such calibrator, it has no such option, or an option is out of its range.
    """
    if name not in CALIBRATORS:
        raise WithinError(f"There is no calibrator named {name!r}", todo=f"choose one of: {', '.join(CALIBRATORS)}")
    accepted = list(inspect.signature(CALIBRATORS[name]).parameters)
    unknown = [option for option in options if option not in accepted]
    if unknown:
        raise WithinError(
            f"The calibrator {name!r} has no option {unknown[0]!r}", todo=f"choose among: {', '.join(accepted)}"
        )
    return CALIBRATORS[name](**options)
