"""The inner step of memory-oriented pruning: covers every deficit, at the least loss, or says why it cannot."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from within.core.errors import WithinError
from within.core.solve import InfeasibleBudget, linear_step


@st.composite
def steps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bytes a channel, as in a U-Net: powers of four, or nothing where the group is not alive."""
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    groups, rows = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    matrix = np.where(random.random((rows, groups)) < 0.6, 4.0 ** random.integers(5, 10, (rows, groups)), 0.0)
    step = random.choice([1, 2, 8], groups).astype(float)
    upper = step * random.integers(0, 6, groups) + random.choice([0.0, 0.5])
    most = matrix @ (np.floor(upper / step) * step)
    deficit = most * random.uniform(-0.2, 1.0, rows) * draw(st.sampled_from([0.3, 1.0]))
    return random.random(groups), matrix, deficit, upper, step


@settings(max_examples=200, deadline=None)
@given(steps())
def test_every_deficit_is_covered_in_whole_steps_within_the_limits(step_: tuple) -> None:
    s, matrix, deficit, upper, step = step_
    result = linear_step(s, matrix, deficit, upper, step=step)
    removed = np.asarray(result.removed)
    assert (matrix @ removed >= deficit).all()
    assert (removed <= upper).all()
    assert (removed >= 0).all()
    np.testing.assert_array_equal(removed % step, 0.0)
    assert result.lower_bound <= result.loss + 1e-9


@settings(max_examples=200, deadline=None)
@given(steps())
def test_without_rounding_it_is_the_optimum_and_covers_every_deficit(step_: tuple) -> None:
    s, matrix, deficit, upper, _ = step_
    deficit = np.minimum(deficit, matrix @ upper)
    result = linear_step(s, matrix, deficit, upper)
    expected = linprog(s, A_ub=-matrix / 4.0**5, b_ub=-deficit / 4.0**5, bounds=list(zip(np.zeros(s.size), upper)))
    assert (matrix @ np.asarray(result.removed) >= deficit * (1 - 1e-12)).all()
    assert result.loss == pytest.approx(expected.fun, abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_rounding_stays_within_one_step_a_group_of_the_best_whole_removal(seed: int) -> None:
    random = np.random.default_rng(seed)
    s, matrix = random.random(3) + 0.05, random.integers(0, 5, (2, 3)).astype(float)
    upper, step = np.array([4.0, 4.0, 4.0]), 2.0
    deficit = matrix @ upper * random.uniform(0, 1)
    best = min(
        float(s @ np.asarray(choice))
        for choice in itertools.product([0.0, 2.0, 4.0], repeat=3)
        if (matrix @ np.asarray(choice) >= deficit).all()
    )
    result = linear_step(s, matrix, deficit, upper, step=step)
    assert result.lower_bound <= best + 1e-9
    assert best - 1e-9 <= result.loss <= best + step * s.sum()


def test_nothing_to_do_removes_nothing() -> None:
    result = linear_step([1, 1], [[1, 2]], [0], [4, 4], step=1)
    assert result.removed == (0.0, 0.0)
    assert result.prices == (0.0,)


def test_the_price_of_a_row_is_the_loss_of_one_more_unit() -> None:
    base = linear_step([1, 3], [[1, 1], [0, 1]], [3, 1], [4, 4])
    more = linear_step([1, 3], [[1, 1], [0, 1]], [3.5, 1], [4, 4])
    assert base.prices[0] == pytest.approx((more.loss - base.loss) / 0.5)
    assert base.prices == pytest.approx((1.0, 2.0))


def test_rounding_up_gives_back_what_it_makes_superfluous() -> None:
    """The relaxed answer is four channels of each; the second row needs the dearer step, and that covers both rows."""
    result = linear_step([1.0, 1.1], [[2.0, 2.0], [0.0, 1.0]], [16.0, 4.0], [8.0, 8.0], step=8)
    assert result.removed == (0.0, 8.0)


def test_rows_that_cannot_be_covered_are_all_named() -> None:
    """The network's input, say, is alive at every step and belongs to no group."""
    with pytest.raises(InfeasibleBudget) as caught:
        linear_step(
            [1, 1],
            [[4, 0], [0, 8], [1, 1]],
            [20, 9, 1],
            [4, 1],
            group_names=["encoder", "decoder"],
            row_names=["at cat", "at conv", "at add"],
        )
    error = caught.value
    assert (error.budget, error.limit, error.minimum) == ("at cat", 16.0, 20.0)
    assert error.holders == (("encoder", 16.0),)
    assert "at conv" in str(error)
    assert "at add" not in str(error)


def test_a_limit_between_two_steps_counts_as_the_step_below() -> None:
    assert linear_step([1.0], [[1.0]], [8.0], [15.0], step=8).removed == (8.0,)
    with pytest.raises(InfeasibleBudget):
        linear_step([1.0], [[1.0]], [9.0], [15.0], step=8)


@pytest.mark.parametrize(
    "arguments",
    [
        ([1.0], [[1.0, 2.0]], [1.0], [1.0]),
        ([1.0], [[-1.0]], [1.0], [1.0]),
        ([np.nan], [[1.0]], [1.0], [1.0]),
        ([1.0], [[1.0]], [np.inf], [1.0]),
        ([1.0], [[1.0]], [1.0], [-1.0]),
    ],
)
def test_bad_input_is_a_clear_error(arguments: tuple) -> None:
    with pytest.raises(WithinError):
        linear_step(*arguments)
