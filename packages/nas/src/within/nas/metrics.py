"""How well scores rank architectures, and what a set of measured ones covers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import kendalltau, spearmanr

from within.core.errors import WithinError

BEST, FIRST = 0.05, 10


@dataclass(frozen=True)
class RankingFigures:
    """How well scores rank.

    Attributes:
        tau: Kendall's tau-b.
        rho: Spearman's rank correlation.
        best_among_first: share of the truly best 5 % among the 5 % ranked first.
        best_of_ten: the best true label among the ten ranked first.
    """

    tau: float
    rho: float
    best_among_first: float
    best_of_ten: float


def ranking_figures(
    scores: Float[np.ndarray, " architectures"], truth: Float[np.ndarray, " architectures"]
) -> RankingFigures:
    """Returns how well scores rank by the truth, the higher the better of both.

    Raises:
        WithinError: when scores or truth are not finite.
    """
    if not (np.isfinite(scores).all() and np.isfinite(truth).all()):
        raise WithinError("A score or a label is NaN or infinite")
    count = max(1, round(BEST * len(truth)))
    by_score, by_truth = np.argsort(-scores, kind="stable"), np.argsort(-truth, kind="stable")
    return RankingFigures(
        tau=float(kendalltau(scores, truth).statistic),
        rho=float(spearmanr(scores, truth).statistic),
        best_among_first=len(set(by_score[:count].tolist()) & set(by_truth[:count].tolist())) / count,
        best_of_ten=float(truth[by_score[:FIRST]].max()),
    )
