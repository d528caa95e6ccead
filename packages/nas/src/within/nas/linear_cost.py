"""A linear model of a cost by the genes, such as latency on a device: a sum over genes and what they are set to.

    cost(a) = c + sum over genes g of w_g[a_g]

Ridge regression on centred columns; the penalty has the least squared error with each architecture left out in turn,
e_i = (y_i - f_i) / (1 - h_i) with h the diagonal of the hat matrix, which is exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from within.core.errors import WithinError
from within.nas.spaces import Architecture, Space

PENALTIES = np.logspace(-4, 3, 22)


class LinearCost:
    """See the module.

    Arguments:
        space: of the architectures.
        architectures, costs: measured ones.

    Attributes:
        error: root mean square of what each measured one is missed by when it is left out, in the unit of the cost.

    Raises:
        WithinError: for fewer than three architectures, or a cost that is not finite.
    """

    def __init__(
        self, space: Space, architectures: Sequence[Architecture], costs: Float[np.ndarray, " architectures"]
    ) -> None:
        values = np.asarray(costs, dtype=np.float64)
        if len(architectures) < 3 or values.shape != (len(architectures),):
            raise WithinError(
                f"{values.shape} costs of {len(architectures)} architectures", todo="measure three or more"
            )
        if not np.isfinite(values).all():
            raise WithinError("A cost is NaN or infinite", where=f"row {np.flatnonzero(~np.isfinite(values))[0]}")
        self.space = space
        columns = space.one_hot(architectures)
        self._mean, self._constant = columns.mean(0), float(values.mean())
        left, singular, right = np.linalg.svd(columns - self._mean, full_matrices=False)
        along = left.T @ (values - self._constant)
        best: tuple[float, Float[np.ndarray, " columns"]] | None = None
        for penalty in PENALTIES:
            shrunk = singular**2 / (singular**2 + penalty)
            leverage = (left**2 * shrunk).sum(1) + 1 / len(values)
            missed = (values - self._constant - left @ (shrunk * along)) / np.maximum(1 - leverage, 1e-9)
            error = float(np.sqrt((missed**2).mean()))
            if best is None or error < best[0]:
                best = error, right.T @ (singular / (singular**2 + penalty) * along)
        assert best is not None
        self.error, self._weights = best

    def __call__(self, architectures: Sequence[Architecture]) -> Float[np.ndarray, " architectures"]:
        """Returns the cost of each, in the unit of those measured."""
        found: Float[np.ndarray, " architectures"] = (
            self.space.one_hot(architectures) - self._mean
        ) @ self._weights + self._constant
        return found
