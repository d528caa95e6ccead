"""What calibrators have in common: the smallest and largest value seen, and what must not be seen."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from within.core.errors import WithinError


@dataclass
class Observed:
    """The range of the values seen so far.

    Attributes:
        name: what is calibrated, for messages.
        axis: one range for each index of this axis; None for one range.
        batches: how many tensors were seen.
        lowest, highest: shape () or (channels,), float32; None before the first tensor.
    """

    name: str
    axis: int | None
    batches: int = 0
    lowest: Tensor | None = None
    highest: Tensor | None = None

    def add(self, values: Tensor) -> Tensor:
        """Takes in a tensor of any shape; returns its values as (channels, values), float32, one row without an axis.

        Raises:
            WithinError: when the tensor is empty, holds NaN or infinity, or has another number of channels than before.
        """
        rows = self._rows(values)
        finite = torch.isfinite(rows)
        if not bool(finite.all()):
            bad = ~torch.isfinite(values.detach().float())
            position = tuple(torch.nonzero(bad)[0].tolist())
            raise WithinError(
                f"{int(bad.sum())} of {bad.numel()} calibration values are NaN or infinite in single precision",
                where=f"{self.name}, tensor {self.batches}, first at index {position}",
                todo="check the data and the weights before this point",
            )
        lowest, highest = rows.amin(1), rows.amax(1)
        if self.axis is None:
            lowest, highest = lowest[0], highest[0]
        if self.lowest is not None and self.highest is not None:
            if lowest.shape != self.lowest.shape:
                raise WithinError(
                    f"There were {self.lowest.numel()} channels along axis {self.axis}, now there are {lowest.numel()}",
                    where=f"{self.name}, tensor {self.batches}",
                )
            lowest, highest = torch.minimum(lowest, self.lowest), torch.maximum(highest, self.highest)
        self.lowest, self.highest = lowest, highest
        self.batches += 1
        return rows

    def range(self) -> tuple[Tensor, Tensor]:
        """Returns the smallest and the largest value, and warns when all values were equal.

        Raises:
            WithinError: when nothing was observed.
        """
        if self.lowest is None or self.highest is None:
            raise WithinError("Nothing was observed", where=self.name, todo="run calibration data through the model")
        equal = self.lowest == self.highest
        if bool(equal.all()):
            what = "zero; the scale will be 1" if not bool(self.highest.any()) else "equal"
            warnings.warn(f"All calibration values of {self.name} are {what}.", stacklevel=3)
        return self.lowest, self.highest

    def _rows(self, values: Tensor) -> Tensor:
        if values.numel() == 0:
            raise WithinError(
                f"An empty tensor of shape {tuple(values.shape)} came for calibration",
                where=f"{self.name}, tensor {self.batches}",
                todo="leave empty batches out",
            )
        values = values.detach().float()
        if self.axis is None:
            return values.reshape(1, -1)
        if not -values.dim() <= self.axis < values.dim():
            raise WithinError(f"There is no axis {self.axis} in shape {tuple(values.shape)}", where=self.name)
        return values.movedim(self.axis, 0).flatten(1) if values.dim() > 1 else values.reshape(-1, 1)
