"""The time of one block at one resolution, over all widths it may have.

    t = max(t_0, a W + b V + c M + d N + e)          all coefficients >= 0

fitted by least relative squares. W are the multiply-accumulates of convolutions in the runtime's blocked layout,
channels filled up to whole vectors; V those of the others, whose channels do not fit it; M are all bytes moved, N those
into and out of the latter; t_0 is what remains however narrow the block is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls


@dataclass(frozen=True)
class Work:
    """What a block has to do.

    Attributes:
        whole: multiply-accumulates of convolutions in the blocked layout, channels filled up to whole vectors.
        broken: those of the others, as they are.
        bytes: of weights, input and outputs.
        broken_bytes: that the others read and write, weights aside.
    """

    whole: float
    broken: float
    bytes: float
    broken_bytes: float

    @property
    def macs(self) -> float:
        """All multiply-accumulates."""
        return self.whole + self.broken


@dataclass(frozen=True)
class BlockModel:
    """A fitted block.

    Attributes:
        coefficients: milliseconds for a unit of each figure of `Work`, in its order.
        constant: milliseconds besides.
        floor: t_0, milliseconds.
    """

    coefficients: tuple[float, ...]
    constant: float
    floor: float = 0.0

    def __call__(self, work: Work) -> float:
        """Returns the time in milliseconds."""
        return max(self.floor, float(np.dot(self.coefficients, astuple(work))) + self.constant)

    @classmethod
    def fit(cls, works: Sequence[Work], milliseconds: Sequence[float]) -> BlockModel:
        """Returns the model of least relative squares; the floor is tried at no time and at each measured time.

        Arguments:
            works: of each measurement.
            milliseconds: its time.
        """
        rows = np.array([[*astuple(work), 1.0] for work in works])
        times = np.array(milliseconds)
        best: tuple[float, BlockModel] | None = None
        for floor in (0.0, *sorted(times)[: max(len(times) - 3, 0)]):
            above = times > floor
            found = _least_relative(rows[above], times[above])
            model = cls(tuple(map(float, found[:-1])), float(found[-1]), float(floor))
            residual = sum((model(work) / time - 1) ** 2 for work, time in zip(works, times, strict=True))
            if best is None or residual < best[0]:
                best = residual, model
        assert best is not None
        return best[1]


def _least_relative(rows: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    relative = rows / times[:, None]
    scale = relative.max(axis=0)
    scale[scale == 0] = 1
    found: NDArray[np.float64] = nnls(relative / scale, np.ones(len(times)))[0] / scale
    return found
