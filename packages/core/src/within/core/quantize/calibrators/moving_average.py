"""The exponential moving average of each tensor's own range, so that one outlier batch does not set the scale.

    m_1 = max(x_1),   m_t = momentum m_{t-1} + (1 - momentum) max(x_t),   the minimum likewise

(Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018,
section 3.1.) The result depends on how values are split into tensors and on their order.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from within.core.errors import WithinError
from within.core.quantize.calibrators.observed import Observed


class MovingAverage:
    """Moving average of the smallest and of the largest value.

    Arguments:
        momentum: weight of what came before, from 0 (only the last tensor counts) to below 1.
        axis: one range for each index of this axis; None for one range.
        name: what is calibrated, for messages.

    Raises:
        WithinError: when the momentum is out of its range.
    """

    def __init__(self, *, momentum: float = 0.9, axis: int | None = None, name: str = "calibration") -> None:
        if not 0.0 <= momentum < 1.0:
            raise WithinError(f"The momentum is {momentum}", where=name, todo="choose a number from 0 to below 1")
        self.momentum, self.observed = momentum, Observed(name, axis)
        self._average: tuple[Tensor, Tensor] | None = None

    def observe(self, values: Float[Tensor, "*shape"]) -> None:
        """Takes in a tensor.

        Raises:
            WithinError: when it is empty, holds NaN or infinity, or has another number of channels than before.
        """
        alone = Observed(self.observed.name, self.observed.axis)
        self.observed.add(values)  # first, as it checks and knows how many tensors came before
        alone.add(values)
        assert alone.lowest is not None
        assert alone.highest is not None
        if self._average is None:
            self._average = alone.lowest, alone.highest
        else:
            low, high = self._average
            self._average = torch.lerp(alone.lowest, low, self.momentum), torch.lerp(alone.highest, high, self.momentum)

    def amax(self) -> Float[Tensor, "*channels"]:
        """Returns the larger magnitude of the two averages; zero, with a warning, where all values were zero.

        Raises:
            WithinError: when nothing was observed.
        """
        lowest, highest = self.range()
        return torch.maximum(lowest.abs(), highest.abs())

    def range(self) -> tuple[Float[Tensor, "*channels"], Float[Tensor, "*channels"]]:
        """Returns the averages of the smallest and of the largest value, for an affine grid.

        Raises:
            WithinError: when nothing was observed.
        """
        self.observed.range()  # raises, or warns, as for every calibrator
        assert self._average is not None
        return self._average
