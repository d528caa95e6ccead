"""The time of one block at one resolution, over all widths it may have.

    t = max(t_0, a MACs + b bytes + c)          a, b, c, t_0 >= 0

fitted by least relative squares: t_0 is what remains however narrow the block is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls


@dataclass(frozen=True)
class BlockModel:
    """A fitted block.

    Attributes:
        a: milliseconds a multiply-accumulate.
        b: milliseconds a byte that is read or written.
        c: milliseconds besides.
        floor: t_0, milliseconds.
    """

    a: float
    b: float
    c: float
    floor: float

    def __call__(self, macs: float, moved: float) -> float:
        """Returns the time in milliseconds for so many multiply-accumulates and bytes."""
        return max(self.floor, self.a * macs + self.b * moved + self.c)

    @classmethod
    def fit(cls, works: Sequence[tuple[float, float]], milliseconds: Sequence[float]) -> BlockModel:
        """Returns the model of least relative squares; the floor is tried at no time and at each measured time.

        Arguments:
            works: multiply-accumulates and bytes of each measurement.
            milliseconds: its time.
        """
        rows = np.array([[macs, moved, 1.0] for macs, moved in works])
        times = np.array(milliseconds)
        best: tuple[float, BlockModel] | None = None
        for floor in (0.0, *sorted(times)[: max(len(times) - 3, 0)]):
            above = times > floor
            found = cls(*_least_relative(rows[above], times[above]), float(floor))
            residual = sum((found(*work) / time - 1) ** 2 for work, time in zip(works, times, strict=True))
            if best is None or residual < best[0]:
                best = residual, found
        assert best is not None
        return best[1]


def _least_relative(rows: NDArray[np.float64], times: NDArray[np.float64]) -> tuple[float, float, float]:
    relative = rows / times[:, None]
    scale = relative.max(axis=0)
    a, b, c = nnls(relative / scale, np.ones(len(times)))[0] / scale
    return float(a), float(b), float(c)
