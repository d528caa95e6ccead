"""Pareto fronts against their definition, crowding by hand, areas against counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.nas.search.pareto import best_first, crowding, fronts, hypervolume, pareto_front

points = st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=25)


@given(points)
def test_a_front_is_what_no_other_point_beats(rows):
    values = np.array(rows, dtype=float)
    expected = [not any((other >= one).all() and (other > one).any() for other in values) for one in values]
    assert pareto_front(values).tolist() == expected


@given(points)
def test_each_front_is_that_of_the_points_behind_the_ones_before(rows):
    values = np.array(rows, dtype=float)
    numbers = fronts(values)
    assert set(numbers.tolist()) == set(range(numbers.max() + 1))
    for number in range(numbers.max() + 1):
        behind = values[numbers >= number]
        assert pareto_front(behind).tolist() == (numbers[numbers >= number] == number).tolist()
    order = best_first(values)
    assert sorted(order.tolist()) == list(range(len(values)))
    assert (np.diff(numbers[order]) >= 0).all()


def test_crowding_by_hand():
    values = np.array([[0.0, 10.0], [1.0, 6.0], [4.0, 4.0], [10.0, 0.0]])
    found = crowding(values)
    assert np.isinf(found[[0, 3]]).all()
    np.testing.assert_allclose(found[1:3], [0.4 + 0.6, 0.9 + 0.6])
    assert best_first(values)[:2].tolist() in ([0, 3], [3, 0])
    assert best_first(values)[2] == 2


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_the_area_counts_the_squares_that_are_beaten(rows):
    squares = {(x, y) for a, b in rows for x in range(a) for y in range(b)}
    assert hypervolume(np.array(rows, dtype=float), (0.0, 0.0)) == len(squares)


def test_a_missing_objective_is_refused():
    with pytest.raises(WithinError, match=r"NaN.*point 1"):
        pareto_front(np.array([[1.0, 2.0], [np.nan, 1.0]]))
