"""The multiple-choice knapsack: every method against brute force, and the promises on budgets, bounds and errors."""

from __future__ import annotations

import itertools
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.core.solve import InfeasibleBudget, Solution, knapsack
from within.core.solve.bound import greedy, position_value, relaxed_value, segments, sieve
from within.core.solve.dominance import TooManyStates, merge_dominant
from within.core.solve.dynamic_programme import coarsen, dynamic_programme
from within.core.solve.options import checked_table, condense

METHODS = ["auto", "dynamic_programme", "dominance", "milp"]
WHOLE = st.integers(0, 12).map(float)
REAL = st.floats(0, 10, allow_subnormal=False)


@st.composite
def problems(draw: st.DrawFn, costs: st.SearchStrategy[float] | None = None) -> tuple[list, list, float]:
    """Values, costs of any shape, and a budget that something fits."""
    number = draw(st.sampled_from([WHOLE, REAL])) if costs is None else costs
    value = draw(st.sampled_from([WHOLE, REAL, st.floats(-5, 5, allow_subnormal=False)]))
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    values = [draw(st.lists(value, min_size=size, max_size=size)) for size in sizes]
    prices = [draw(st.lists(number, min_size=size, max_size=size)) for size in sizes]
    least, most = math.fsum(min(c) for c in prices), math.fsum(max(c) for c in prices)
    budget = least + draw(st.floats(0, 1)) * (most - least)
    # One bit more than the rounded least cost, which in exact arithmetic may not be enough.
    return values, prices, math.nextafter(max(budget, least), math.inf)


def brute_force(values: list, costs: list, budget: float) -> float:
    """The best value within the budget in exact arithmetic."""
    best, limit = -math.inf, Fraction(budget)
    exact = [[Fraction(cost) for cost in group] for group in costs]
    for choice in itertools.product(*[range(len(v)) for v in values]):
        if sum(c[k] for c, k in zip(exact, choice)) <= limit:
            best = max(best, math.fsum(v[k] for v, k in zip(values, choice)))
    return best


def check(solution: Solution, values: list, costs: list, budget: float) -> None:
    """What every solution promises."""
    assert solution.value == pytest.approx(math.fsum(v[k] for v, k in zip(values, solution.choice)), abs=1e-12)
    assert solution.cost == math.fsum(c[k] for c, k in zip(costs, solution.choice))
    assert solution.cost <= budget, "the budget is broken"
    assert solution.upper_bound >= solution.value
    assert (solution.gap == 0) == (solution.upper_bound == solution.value)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=100, deadline=None)
@given(problem=problems())
def test_the_value_is_that_of_brute_force(method: str, problem: tuple[list, list, float]) -> None:
    values, costs, budget = problem
    solution = knapsack(values, costs, budget, method=method)
    check(solution, values, costs, budget)
    best = brute_force(values, costs, budget)
    assert solution.upper_bound >= best - 1e-9
    if solution.gap > 0:
        assert method == "dynamic_programme", "only a rounded cost axis may leave a gap"
    elif solution.value > best + 1e-8:
        assert sum(Fraction(c[k]) for c, k in zip(costs, solution.choice)) > Fraction(budget), "brute force is wrong"
    else:
        assert solution.value == pytest.approx(best, abs=1e-8)


@pytest.mark.parametrize("method", ["auto", "dynamic_programme", "dominance"])
@settings(max_examples=60, deadline=None)
@given(problem=problems(costs=WHOLE))
def test_whole_costs_are_solved_to_the_end(method: str, problem: tuple[list, list, float]) -> None:
    values, costs, budget = problem
    solution = knapsack(values, costs, budget, method=method)
    assert solution.gap == 0
    assert solution.value == pytest.approx(brute_force(values, costs, budget), abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(problem=problems(costs=REAL), units=st.integers(1, 60))
def test_a_coarse_cost_axis_never_breaks_the_budget(problem: tuple[list, list, float], units: int) -> None:
    """Costs rounded to the nearest cell would break it on some of these."""
    values, costs, budget = problem
    solution = knapsack(values, costs, budget, method="dynamic_programme", units=units)
    check(solution, values, costs, budget)
    assert solution.upper_bound >= brute_force(values, costs, budget) - 1e-9


@settings(max_examples=100, deadline=None)
@given(problem=problems(), more=st.floats(0, 5))
def test_more_budget_is_never_worse(problem: tuple[list, list, float], more: float) -> None:
    values, costs, budget = problem
    assert knapsack(values, costs, budget + more).value >= knapsack(values, costs, budget).value - 1e-9


@settings(max_examples=100, deadline=None)
@given(problem=problems(), seed=st.integers(0, 1000))
def test_the_order_of_groups_and_options_does_not_matter(problem: tuple[list, list, float], seed: int) -> None:
    values, costs, budget = problem
    random = np.random.default_rng(seed)
    groups = random.permutation(len(values))
    inner = [random.permutation(len(values[group])) for group in groups]
    shuffled = [np.asarray(values[g])[order] for g, order in zip(groups, inner)]
    prices = [np.asarray(costs[g])[order] for g, order in zip(groups, inner)]
    expected = knapsack(values, costs, budget).value
    assert knapsack(shuffled, prices, budget).value == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(problem=problems(), exponent=st.integers(-60, 60))
def test_the_unit_of_the_costs_does_not_matter(problem: tuple[list, list, float], exponent: int) -> None:
    values, costs, budget = problem
    scaled = [[math.ldexp(cost, exponent) for cost in group] for group in costs]
    solution = knapsack(values, scaled, math.ldexp(budget, exponent))
    assert solution.value == pytest.approx(knapsack(values, costs, budget).value, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(problem=problems())
def test_the_pieces_agree_with_brute_force_without_the_chooser(problem: tuple[list, list, float]) -> None:
    """The chooser hides a broken piece where another one answers first."""
    values, costs, budget = problem
    best = brute_force(values, costs, budget)
    options = condense(checked_table(values, costs, budget))
    lines = segments(options)
    known = position_value(options, greedy(options, lines))
    assert known <= best + 1e-9
    assert relaxed_value(lines, options.capacity) >= best - 1e-9
    merged = merge_dominant(options, lines, -math.inf, 10**6)
    assert merged is not None
    assert position_value(options, merged) == pytest.approx(best, abs=1e-9)
    reduced = sieve(options, lines, known)
    if best > known + 1e-9:
        assert reduced is not None
        better = merge_dominant(reduced, segments(reduced), known, 10**6)
        assert better is not None
        assert position_value(reduced, better) == pytest.approx(best, abs=1e-9)
    short, exact = coarsen(options, 1000)
    found = position_value(short, dynamic_programme(short))
    assert found <= best + 1e-9
    if exact:
        assert found == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", ["monotone", "weakly correlated", "strongly correlated", "subset sum"])
def test_the_methods_agree_on_forty_groups(seed: int, shape: str) -> None:
    """Classes of hard instances after Pisinger (1995), too large for brute force."""
    values, costs, budget = instance(shape, 40, 10, 20_000, seed)
    solutions = [knapsack(values, costs, budget, method=method) for method in ("auto", "dynamic_programme")]
    assert solutions[0].value == pytest.approx(solutions[1].value, abs=1e-9)
    options = condense(checked_table(values, costs, budget))
    whole, _ = coarsen(options, 20_000)
    assert position_value(whole, dynamic_programme(whole)) == pytest.approx(solutions[0].value, abs=1e-9)
    assert solutions[0].gap == solutions[1].gap == 0


def instance(shape: str, groups: int, options: int, budget: int, seed: int) -> tuple[list, list, float]:
    random = np.random.default_rng(seed)
    costs = [random.integers(1, 3 * budget // groups, options) for _ in range(groups)]
    if shape == "monotone":
        costs = [np.sort(cost) for cost in costs]
        return [np.cumsum(random.random(options)) for _ in costs], costs, budget
    if shape == "weakly correlated":
        return [cost + random.integers(-100, 100, options) for cost in costs], costs, budget
    if shape == "strongly correlated":
        return [cost + 50 for cost in costs], costs, budget
    costs = [2 * cost for cost in costs]
    return costs, costs, 2 * budget - 1


def test_real_costs_that_outgrow_the_lists_end_in_a_gap() -> None:
    """Strongly correlated real costs are the worst case of dominance lists; then the dynamic programme answers."""
    values, costs, budget = instance("strongly correlated", 40, 10, 20_000, 0)
    jitter = np.random.default_rng(1)
    costs = [cost + jitter.random(cost.size) for cost in costs]
    table = checked_table(values, costs, budget)
    options = condense(table)
    with pytest.raises(TooManyStates):
        merge_dominant(options, segments(options), 0.0, 10_000)
    solution = knapsack(values, costs, budget, method="dynamic_programme", units=50_000)
    check(solution, values, costs, budget)
    assert 0 <= solution.gap < 1e-2


def test_exactly_at_the_budget_is_within_it() -> None:
    """A relative budget of 100 % must keep everything, and the least attainable cost must be attainable."""
    costs = [[0.1, 0.2], [0.3, 0.7], [1e-9, 1.1]]
    values = [[0.0, 1.0]] * 3
    everything, nothing = math.fsum(c[1] for c in costs), math.fsum(c[0] for c in costs)
    for method in ("auto", "dynamic_programme", "dominance"):
        assert knapsack(values, costs, everything, method=method).choice == (1, 1, 1)
        assert knapsack(values, costs, nothing, method=method).choice == (0, 0, 0)
        below = knapsack(values, costs, math.nextafter(everything, 0), method=method)
        assert sum(map(Fraction, (c[k] for c, k in zip(costs, below.choice)))) < Fraction(everything)


def test_no_limit_takes_the_best_of_each_group() -> None:
    assert knapsack([[1, 3, 2], [5, 4]], [[1, 9, 2], [1e300, 0]], math.inf).choice == (1, 0)


def test_costs_may_be_negative() -> None:
    """A choice may give something back, as a narrower layer does that lets another one grow."""
    solution = knapsack([[0, 1], [0, 5]], [[-3.0, 0.0], [0.0, 3.0]], 0.0)
    assert (solution.choice, solution.cost) == ((0, 1), 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_an_impossible_budget_names_its_least_cost_and_who_holds_it(method: str) -> None:
    with pytest.raises(InfeasibleBudget) as caught:
        knapsack(
            [[1, 2], [1, 2], [1]],
            [[5.0, 9.0], [20.0, 30.0], [0.0]],
            24.0,
            method=method,
            group_names=["stem", "head", "free"],
            budget_names=["latency"],
        )
    error = caught.value
    assert (error.budget, error.limit, error.minimum) == ("latency", 24.0, 25.0)
    assert error.holders == (("head", 20.0), ("stem", 5.0))
    assert all(word in str(error) for word in ("latency", "24", "25", "head"))
    assert knapsack([[1, 2], [1, 2]], [[5.0, 9.0], [20.0, 30.0]], error.minimum).choice == (0, 0)
    assert pickle.loads(pickle.dumps(error)).holders == error.holders


@pytest.mark.parametrize(
    ("values", "costs", "budget", "message"),
    [
        ([[1.0]], [[math.nan]], 1, "not a finite number"),
        ([[math.nan]], [[1.0]], 1, "not a finite number"),
        ([[1.0]], [[math.inf]], 1, "not a finite number"),
        ([[1.0]], [[1.0]], -1, "at least 0"),
        ([[1.0]], [[1.0]], math.nan, "at least 0"),
        ([], [], 1, "0 groups"),
        ([[]], [[]], 1, "at least one option"),
        ([[1.0, 2.0]], [[1.0]], 1, "shape"),
        ([[1.0]], [[1.0], [2.0]], 1, "groups of"),
        ([[1.0]], [["many"]], 1, "Not an array"),
        ([[1.0]], [[1.0]], [1.0, 2.0], "shape"),
    ],
)
def test_bad_input_is_a_clear_error(values: list, costs: list, budget: float, message: str) -> None:
    with pytest.raises(WithinError, match=message):
        knapsack(values, costs, budget)


def test_unknown_methods_and_wrong_names_are_clear_errors() -> None:
    with pytest.raises(WithinError, match="no method"):
        knapsack([[1]], [[1]], 1, method="magic")  # type: ignore[arg-type]
    with pytest.raises(WithinError, match="2 names"):
        knapsack([[1]], [[1]], 1, group_names=["a", "b"])
    with pytest.raises(WithinError, match="takes one budget"):
        knapsack([[1]], [[[1, 1]]], [1, 1], method="dominance")
