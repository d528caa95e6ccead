"""A prior: scores that cost no query, such as zero-cost scores, parameters and MACs, beside those of a predictor.

    combined(a) = quantile of the predictor's score + weight * quantile of the prior's

Quantiles are those in a sample of the space, so that neither needs a unit; above its highest value they grow on.
A prior of several cheap labels is the mean of their ranks, a vote in which none has a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from within.core.errors import WithinError
from within.nas.spaces import Architecture
from within.nas.tables.table import FAILED, Table

Score = Callable[[Sequence[Architecture]], Float[np.ndarray, " architectures"]]


def mean_rank(table: Table, names: Sequence[str]) -> Score:
    """Returns the mean rank, in (0, 1], of some columns of a table, the higher the better.

    Numbers that are missing, or that stand for a failure, rank below all others.

    Raises:
        WithinError: when the table lacks a column or no name is given; on scoring, when an architecture is not in it.
    """
    if not names:
        raise WithinError("A prior needs a column", todo="name one or more cheap labels")
    ranks = []
    for name in names:
        values = table.column(name)
        values = np.where(np.isfinite(values) & (values > FAILED), values, -np.inf)
        ranks.append(rankdata(values) / len(values))
    mean = np.mean(ranks, axis=0)
    rows = {architecture: row for row, architecture in enumerate(table.architectures)}

    def score(architectures: Sequence[Architecture]) -> Float[np.ndarray, " architectures"]:
        unknown = next((each for each in architectures if each not in rows), None)
        if unknown is not None:
            raise WithinError(f"The table has no architecture {list(unknown)}", where=table.where or None)
        found: Float[np.ndarray, " architectures"] = mean[[rows[each] for each in architectures]]
        return found

    return score


def combined(score: Score, prior: Score, weight: float, sample: Sequence[Architecture]) -> Score:
    """Returns the sum of the quantiles of a score and of a prior, in a sample."""
    one, two = _quantiles(score(sample)), _quantiles(prior(sample))
    return lambda architectures: one(score(architectures)) + weight * two(prior(architectures))


def _quantiles(sample: Float[np.ndarray, " sample"]) -> Callable[[np.ndarray], np.ndarray]:
    known, first = np.unique(np.sort(sample), return_index=True)
    places = (first + 1) / len(sample)
    span = float(known[-1] - known[0]) or 1.0
    return lambda values: np.interp(values, known, places) + np.maximum(values - known[-1], 0) / span
