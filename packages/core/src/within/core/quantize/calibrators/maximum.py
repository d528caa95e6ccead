"""The largest magnitude of all values seen: nothing is ever clipped, and one outlier sets the scale."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from within.core.quantize.calibrators.observed import Observed


class Maximum:
    """Running smallest and largest value.

    Arguments:
        axis: one range for each index of this axis; None for one range.
        name: what is calibrated, for messages.
    """

    def __init__(self, *, axis: int | None = None, name: str = "calibration") -> None:
        self.observed = Observed(name, axis)

    def observe(self, values: Float[Tensor, "*shape"]) -> None:
        """Takes in a tensor.

        Raises:
            WithinError: when it is empty, holds NaN or infinity, or has another number of channels than before.
        """
        self.observed.add(values)

    def amax(self) -> Float[Tensor, "*channels"]:
        """Returns the largest magnitude; zero, with a warning, where all values were zero.

        Raises:
            WithinError: when nothing was observed.
        """
        lowest, highest = self.observed.range()
        return torch.maximum(lowest.abs(), highest.abs())

    def range(self) -> tuple[Float[Tensor, "*channels"], Float[Tensor, "*channels"]]:
        """Returns the smallest and largest value, for an affine grid.

        Raises:
            WithinError: when nothing was observed.
        """
        return self.observed.range()
