"""Priors: mean ranks, what is missing comes last, quantiles that keep the order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.nas.search import predictor_based
from within.nas.search.history import History
from within.nas.search.prior import combined, mean_rank
from within.nas.spaces import Gene, Space
from within.nas.tables.table import Table

SPACE = Space("numbers", (Gene("number", tuple(range(40))),))
CELLS = [(number,) for number in range(40)]


def test_ranks_are_averaged_and_what_is_missing_comes_last():
    columns = {
        "good": np.array([0.0, 10.0, 20.0, 30.0]),
        "failed": np.array([1.0, -1e8, 3.0, 2.0]),
        "missing": np.array([5.0, 6.0, np.nan, 7.0]),
    }
    prior = mean_rank(Table(SPACE, tuple(CELLS[:4]), columns), list(columns))
    expected = [(1 + 2 + 2) / 12, (2 + 1 + 3) / 12, (3 + 4 + 1) / 12, (4 + 3 + 4) / 12]
    np.testing.assert_allclose(prior(CELLS[:4]), expected)
    with pytest.raises(WithinError, match=r"no architecture \[9\]"):
        prior([(9,)])
    with pytest.raises(WithinError, match="no column 'bad'"):
        mean_rank(Table(SPACE, tuple(CELLS[:4]), columns), ["bad"])


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.floats(-1e6, 1e6))
def test_quantiles_keep_the_order_beyond_the_sample_too(sample, shift):
    """With a prior that says nothing, the combination orders as the score does, up to rounding."""
    values = np.array(sample)
    score = combined(
        lambda cells: np.array(
            [values[cell[0] % len(values)] + (cell[0] >= len(values)) * abs(shift) for cell in cells]
        ),
        lambda cells: np.zeros(len(cells)),
        1.0,
        [(row,) for row in range(len(values))],
    )
    cells = [(row,) for row in range(2 * len(values))]
    plain = np.concatenate([values, values + abs(shift)])
    found = score(cells)
    order = np.argsort(plain, kind="stable")
    assert (np.diff(found[order]) >= -1e-9).all()


def test_a_perfect_prior_needs_no_search_and_a_silent_one_changes_nothing():
    def evaluated(cells):
        return [{"accuracy": float(cell[0])} for cell in cells]

    def learn(_architectures, _labels, _round):
        return lambda cells: -np.array([float(cell[0]) for cell in cells])  # a predictor that is always wrong

    perfect = predictor_based.search(
        SPACE, History(evaluated, 6), learn, start=2, each=2, inner="all", prior=lambda cells: np.array(cells)[:, 0],
        prior_weight=3.0,
    )  # fmt: skip
    assert perfect.architectures[:2] == [(39,), (38,)]
    assert min(perfect.values("accuracy")) == 34
    silent = [
        predictor_based.search(
            SPACE, History(evaluated, 8), learn, start=2, each=2, inner="all",
            prior=lambda cells: np.array(cells)[:, 0], prior_weight=0.0,
        ).architectures[2:]
    ]  # fmt: skip
    assert silent == [[(number,) for number in range(6)]]
