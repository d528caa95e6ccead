"""Cheap predictors to compare with, from columns of numbers: a random forest, boosted trees, a linear model.

Each `learn_*` has the arguments of `within.nas.search.predictor_based.Learn`, where the round serves as the seed; set
what it reads by `functools.partial(learn_forest, features=...)`. Labels are replaced by their ranks, since a score only
orders: one network that failed to train would otherwise outweigh the order of the good ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import rankdata

from within.core.errors import WithinError
from within.nas.features import Features
from within.nas.spaces import Architecture

Score = Callable[[Sequence[Architecture]], Float[np.ndarray, " architectures"]]


def learn_forest(
    architectures: Sequence[Architecture],
    labels: Float[np.ndarray, " architectures"],
    seed: int = 0,
    *,
    features: Features | None = None,
    trees: int = 200,
) -> Score:
    """Returns the scores by a random forest.

    Arguments:
        architectures, labels: to learn from, the higher the better.
        seed: of the trees.
        features: columns to read, NaN where something is missing; without them, one for each value of each gene. What
            is missing for all architectures to learn from is not read.
        trees: how many.

    Raises:
        WithinError: for labels that are missing or infinite, or features that are infinite or of the wrong number.
    """
    from sklearn.ensemble import RandomForestRegressor

    return _learned(
        lambda: RandomForestRegressor(trees, max_features=1 / 3, random_state=seed), architectures, labels, features
    )


def learn_boosting(
    architectures: Sequence[Architecture],
    labels: Float[np.ndarray, " architectures"],
    seed: int = 0,
    *,
    features: Features | None = None,
    iterations: int = 200,
) -> Score:
    """Returns the scores by gradient-boosted trees on binned columns; arguments and errors as of `learn_forest`."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return _learned(
        lambda: HistGradientBoostingRegressor(
            max_iter=iterations,
            learning_rate=0.05,
            min_samples_leaf=max(2, min(20, len(architectures) // 20)),
            early_stopping=False,
            random_state=seed,
        ),
        architectures,
        labels,
        features,
    )


def learn_ridge(
    architectures: Sequence[Architecture],
    labels: Float[np.ndarray, " architectures"],
    seed: int = 0,
    *,
    features: Features | None = None,
) -> Score:
    """Returns the scores by ridge regression on standardised columns; nothing in it is random.

    Missing numbers are replaced by the column's median and marked in a column of their own; the penalty is chosen by
    leaving one out. Arguments and errors as of `learn_forest`.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return _learned(
        lambda: make_pipeline(
            SimpleImputer(strategy="median", add_indicator=True),
            StandardScaler(),
            RidgeCV(np.logspace(-3, 3, 13)),
        ),
        architectures,
        labels,
        features,
    )


def _learned(
    make: Callable[[], Any],
    architectures: Sequence[Architecture],
    labels: Float[np.ndarray, " architectures"],
    features: Features | None,
) -> Score:
    values = np.asarray(labels, dtype=np.float64)
    if values.shape != (len(architectures),) or not len(values):
        raise WithinError(f"Labels of {values.shape} for {len(architectures)} architectures")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise WithinError("A label is NaN or infinite", where=f"row {bad[0]}")
    read = _genes_as_columns(architectures) if features is None else features
    columns = _checked(read, architectures)
    seen = ~np.isnan(columns).all(0)
    if not seen.any():
        raise WithinError("No feature of the architectures to learn from is there", todo="give others")
    model = make().fit(columns[:, seen], rankdata(values) / len(values))

    def score(others: Sequence[Architecture]) -> Float[np.ndarray, " architectures"]:
        if not len(others):
            return np.zeros(0)
        return np.asarray(model.predict(_checked(read, others)[:, seen]), dtype=np.float64)

    return score


def _checked(features: Features, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
    found = np.asarray(features(architectures), dtype=np.float64)
    if found.ndim != 2 or len(found) != len(architectures):
        raise WithinError(f"Features of {found.shape} for {len(architectures)} architectures")
    infinite = np.argwhere(np.isinf(found))
    if len(infinite):
        row, column = infinite[0]
        raise WithinError(
            "A feature is infinite", where=f"row {row}, column {column}", todo="give NaN where it is missing"
        )
    return found


def _genes_as_columns(architectures: Sequence[Architecture]) -> Features:
    """Returns a function that gives a column for each value of each gene that occurs in these."""
    genes = np.asarray(architectures, dtype=np.int64)
    known = [np.unique(column) for column in genes.T]

    def features(others: Sequence[Architecture]) -> Float[np.ndarray, "architectures columns"]:
        columns = np.asarray(others, dtype=np.int64).T
        parts = [column[:, None] == values for column, values in zip(columns, known, strict=True)]
        return np.concatenate(parts, axis=1).astype(np.float64)

    return features
