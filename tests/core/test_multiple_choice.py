"""Several budgets at once: HiGHS against brute force, and errors that say which budget is to blame."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.core.solve import InfeasibleBudget, knapsack


def brute_force(values: list, costs: list, limits: np.ndarray) -> float | None:
    best = None
    for choice in itertools.product(*[range(len(v)) for v in values]):
        rows = zip(*[cost[k] for cost, k in zip(costs, choice)])
        if all(math.fsum(row) <= limit for row, limit in zip(rows, limits)):
            value = float(sum(v[k] for v, k in zip(values, choice)))
            best = value if best is None else max(best, value)
    return best


def _min(cost: np.ndarray) -> np.ndarray:
    return cost.min(axis=0)


def _max(cost: np.ndarray) -> np.ndarray:
    return cost.max(axis=0)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), groups=st.integers(1, 5), budgets=st.integers(2, 4), whole=st.booleans())
def test_equals_brute_force_within_every_budget(seed: int, groups: int, budgets: int, whole: bool) -> None:
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 5, groups)
    costs = [random.integers(0, 9, (n, budgets)) * 1.0 if whole else random.random((n, budgets)) for n in sizes]
    values = [random.integers(0, 9, n) * 1.0 if whole else random.normal(size=n) for n in sizes]
    least, most = (np.array([math.fsum(row) for row in zip(*[f(c) for c in costs])]) for f in (_min, _max))
    limits = np.maximum(least, least + random.uniform(-0.1, 1.0, budgets) * (most - least))
    best = brute_force(values, costs, limits)
    try:
        solution = knapsack(values, costs, limits)
    except InfeasibleBudget:
        assert best is None
        return
    assert best is not None
    assert (np.asarray(solution.costs) <= limits).all()
    assert solution.value == pytest.approx(best, abs=1e-9)
    assert solution.gap == 0


def test_a_budget_that_fails_alone_is_the_one_named() -> None:
    costs = [[[1, 50], [2, 60]], [[1, 10], [2, 20]]]
    with pytest.raises(InfeasibleBudget) as caught:
        knapsack([[1, 2], [1, 2]], costs, [9, 55], group_names=["a", "b"], budget_names=["macs", "memory"])
    assert (caught.value.budget, caught.value.minimum) == ("memory", 60)
    assert caught.value.holders == (("a", 50), ("b", 10))


def test_budgets_that_only_conflict_name_the_one_nearest_to_its_limit() -> None:
    """Each can be met alone; under the first, the second needs 12 instead of 10, under the second the first needs 9."""
    costs = [[[9, 2], [1, 12]]]
    with pytest.raises(InfeasibleBudget, match="while the other budgets hold") as caught:
        knapsack([[1, 1]], costs, [4, 10], budget_names=["macs", "memory"])
    assert (caught.value.budget, caught.value.limit, caught.value.minimum) == ("memory", 10, 12)


def test_three_budgets_that_conflict_in_pairs_are_all_named() -> None:
    costs = [np.array([[0, 9, 9], [9, 0, 9], [9, 9, 0]])]
    with pytest.raises(InfeasibleBudget, match="even without any one"):
        knapsack([[1, 1, 1]], costs, [1, 1, 1], budget_names=["a", "b", "c"])


def test_infinite_limits_are_no_limits() -> None:
    solution = knapsack([[1, 2]], [[[1, 1], [2, 9]]], [2, np.inf])
    assert solution.choice == (1,)
    assert solution.costs == (2.0, 9.0)
    assert knapsack([[1, 2]], [[[1, 1], [2, 9]]], [np.inf, np.inf]).choice == (1,)


def test_a_zero_limit_is_kept_to() -> None:
    assert knapsack([[0, 5]], [[[0, 0], [1e-6, 0]]], [0, 1]).choice == (0,)


def test_one_cost_of_several_budgets_is_refused() -> None:
    with pytest.raises(WithinError, match="2 budgets"):
        _ = knapsack([[1]], [[[1, 1]]], [1, 1]).cost


@pytest.mark.parametrize("magnitude", [1e-6, 1.0, 1e12])
def test_a_choice_over_the_budget_by_less_than_the_solver_sees_is_refused(magnitude: float) -> None:
    """HiGHS takes the dearer option: it is over both budgets by 1e-12 of them."""
    over = 1 + 1e-12
    costs = [np.array([[0.5, 0.5], [over, over]]) * magnitude]
    solution = knapsack([[1, 2]], costs, np.array([1.0, 1.0]) * magnitude)
    assert solution.choice == (0,)
    assert max(solution.costs) <= magnitude
