"""The multiple-choice knapsack: equal to HiGHS, never over budget, and fast on a long cost axis.

1,000 random instances are solved by every method and by HiGHS, called here without our own wrapper. Budgets are checked
in rational arithmetic. Forty groups at 200,000 cost units are timed on five classes of instances, from the monotone
curves of channel pruning to the strongly correlated ones that are hardest for dominance (Pisinger, EJOR 83, 1995).
A greedy choice by value per cost shows what exactness is worth.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from within.core.bench import BenchResult
from within.core.progress import track
from within.core.solve import knapsack
from within.core.solve.dynamic_programme import coarsen, dynamic_programme
from within.core.solve.options import checked_table, condense
from within.core.solve.silence import silent_standard_output

SHAPES = ("monotone", "uncorrelated", "weakly correlated", "strongly correlated", "subset sum")
INSTANCES = 1000
TOLERANCE = 1e-6  # relative; HiGHS itself works with 1e-6
UNITS = 200_000
SECONDS = 0.3


@dataclass(frozen=True)
class Instance:
    """Values and costs per group, and the budget."""

    values: list[NDArray[np.float64]]
    costs: list[NDArray[np.float64]]
    budget: float

    def arguments(self) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]], float]:
        """The arguments of `knapsack`."""
        return self.values, self.costs, self.budget

    def over(self, choice: tuple[int, ...]) -> bool:
        """Whether a choice breaks the budget, in exact arithmetic."""
        return sum(Fraction(float(cost[k])) for cost, k in zip(self.costs, choice)) > Fraction(self.budget)


def run(full: bool = False) -> BenchResult:
    """Runs the bench; `full` takes ten times as many instances."""
    against = _against_highs(INSTANCES * (10 if full else 1))
    speed, rows = _speed(repeats=9 if full else 3)
    slowest = max(speed.values())
    passed = against["differ"] == 0 and against["over_budget"] == 0 and slowest < SECONDS
    figures = {
        "highs": against,
        "cpu_seconds": {name: round(value, 4) for name, value in speed.items()},
        "slowest_cpu_seconds": round(slowest, 4),
        "thresholds": {"differ": 0, "over_budget": 0, "slowest_cpu_seconds": SECONDS},
    }
    columns = ("instances of 40 groups, 16 options", "costs", "method", "CPU-s", "gap", "greedy loses %", "ok")
    return BenchResult("solver", passed, figures, columns, rows)


def instance(random: np.random.Generator, shape: str, groups: int, options: int, budget: int, whole: bool) -> Instance:
    """Returns an instance whose costs sum to about three times its budget when each group takes its dearest option."""
    costs = [random.integers(1, max(2, 3 * budget // groups), options).astype(float) for _ in range(groups)]
    if shape == "monotone":
        costs = [np.sort(cost) for cost in costs]
        values = [np.cumsum(np.sort(random.random(options))[::-1]) * random.random() for _ in costs]
    elif shape == "uncorrelated":
        values = [random.random(options) for _ in costs]
    elif shape == "weakly correlated":
        spread = max(1.0, budget / groups / 10)
        values = [cost + random.uniform(-spread, spread, options) for cost in costs]
    elif shape == "strongly correlated":
        values = [cost + budget / groups / 10 for cost in costs]
    else:
        values = [cost.copy() for cost in costs]
    if not whole:
        costs = [cost + random.random(options) for cost in costs]
    least = sum(float(cost.min()) for cost in costs)
    return Instance(values, costs, float(max(budget, np.ceil(least))))


def _against_highs(count: int) -> dict[str, float]:
    random = np.random.default_rng(0)
    differ = over_budget = highs_over = unproved = runs = 0
    worst = 0.0
    losses = []
    seconds = {"ours": 0.0, "HiGHS": 0.0}
    for number in track(range(count), "Comparing with HiGHS"):
        whole = number % 2 == 0
        shape, options = SHAPES[number % 5], int(random.integers(2, 13))
        # Strongly correlated real costs keep HiGHS busy for minutes beyond a few groups.
        groups = int(random.integers(1, 21 if whole or shape != "strongly correlated" else 9))
        problem = instance(random, shape, groups, options, int(random.integers(50, 2000)), whole)
        started = time.thread_time()
        solutions = [knapsack(*problem.arguments())]
        seconds["ours"] += time.thread_time() - started
        for units in (UNITS, 100):
            solutions.append(knapsack(*problem.arguments(), method="dynamic_programme", units=units))
        if number % 10 < 2:  # our own call of HiGHS, which is the slowest of all
            solutions.append(knapsack(*problem.arguments(), method="milp", time_limit=20.0))
        started = time.thread_time()
        choice, reference, proved = _highs(problem)
        seconds["HiGHS"] += time.thread_time() - started
        runs += len(solutions)
        over_budget += sum(problem.over(solution.choice) for solution in solutions)
        if problem.over(choice) or not proved:
            highs_over += problem.over(choice)  # by less than its tolerance: then its value is no reference
            unproved += not proved
            continue
        for solution in solutions:
            # Where the cost axis was rounded, the promise is a bracket; everywhere else it is equality.
            size = max(1.0, abs(reference))
            below = solution.value - reference if solution.gap == 0 else min(0.0, solution.upper_bound - reference)
            worst = max(worst, abs(below) / size)
            differ += abs(below) > TOLERANCE * size or solution.value > reference + TOLERANCE * size
        losses.append(1 - _greedy(problem) / reference if reference > 0 else 0.0)
    return {
        "instances": count,
        "solutions": runs,
        "differ": differ,
        "largest_relative_difference": worst,
        "over_budget": over_budget,
        "highs_itself_over_budget": highs_over,
        "highs_unfinished": unproved,
        "compared": len(losses),
        "cpu_seconds_ours_auto": round(seconds["ours"], 3),
        "cpu_seconds_highs": round(seconds["HiGHS"], 3),
        "greedy_loss_mean_percent": round(100 * statistics.mean(losses), 3),
        "greedy_loss_max_percent": round(100 * max(losses), 3),
    }


def _highs(problem: Instance) -> tuple[tuple[int, ...], float, bool]:
    sizes = [value.size for value in problem.values]
    columns = np.arange(sum(sizes))
    pick = csr_array((np.ones(columns.size), (np.repeat(np.arange(len(sizes)), sizes), columns)))
    values, costs = np.concatenate(problem.values), np.concatenate(problem.costs)
    limit = LinearConstraint(csr_array(costs[None]), -np.inf, problem.budget)
    with silent_standard_output():
        result = milp(
            -values,
            integrality=np.ones(columns.size),
            bounds=Bounds(0, 1),
            constraints=[LinearConstraint(pick, 1, 1), limit],
            options={"mip_rel_gap": 0.0, "time_limit": 20.0},
        )
    choice = tuple(int(part.argmax()) for part in np.split(result.x, np.cumsum(sizes)[:-1]))
    return choice, float(sum(value[k] for value, k in zip(problem.values, choice))), result.status == 0


def _greedy(problem: Instance) -> float:
    """The usual heuristic: from the cheapest options, take the single change of best value per cost until none fits."""
    choice = [int(cost.argmin()) for cost in problem.costs]
    left = problem.budget - sum(float(cost[k]) for cost, k in zip(problem.costs, choice))
    while True:
        best = (0.0, -1, -1)
        for group, (value, cost) in enumerate(zip(problem.values, problem.costs)):
            gain, extra = value - value[choice[group]], cost - cost[choice[group]]
            rates = np.where((gain > 0) & (extra <= left), gain / np.maximum(extra, 1e-9), 0.0)
            option = int(rates.argmax())
            best = max(best, (float(rates[option]), group, option))
        rate, group, option = best
        if rate <= 0.0:
            return float(sum(value[k] for value, k in zip(problem.values, choice)))
        left -= float(problem.costs[group][option] - problem.costs[group][choice[group]])
        choice[group] = option


def _speed(repeats: int) -> tuple[dict[str, float], list[tuple]]:
    speed, rows = {}, []
    for shape in SHAPES:
        for whole in (True, False):
            problem = instance(np.random.default_rng(1), shape, 40, 16, UNITS, whole)
            costs = "whole" if whole else "real"
            for method in ("auto", "dynamic_programme"):

                def solve(problem: Instance = problem, method: str = method) -> object:
                    return knapsack(*problem.arguments(), method=method, units=UNITS)

                seconds, solution = _timed(solve, repeats)
                loss = 100 * (1 - _greedy(problem) / solution.value)
                name = f"{shape}, {costs}, {method}"
                timed = whole or method == "dynamic_programme"
                if timed:
                    speed[name] = seconds
                label = solution.method if method == "auto" else method
                rows.append((shape, costs, f"{method}: {label}", seconds, solution.gap, loss, _ok(timed, seconds)))
            options = condense(checked_table(problem.values, problem.costs, problem.budget))
            seconds, _ = _timed(lambda options=options: dynamic_programme(coarsen(options, UNITS)[0]), repeats)
            speed[f"{shape}, {costs}, dynamic programme alone"] = seconds
            rows.append((shape, costs, "dynamic programme, no sieve", seconds, "", "", _ok(True, seconds)))
    return speed, rows


def _ok(timed: bool, seconds: float) -> object:
    return seconds < SECONDS if timed else "information"


def _timed(function: Callable[[], object], repeats: int) -> tuple[float, object]:
    """Returns the largest CPU time of this thread over some runs, and the result."""
    slowest, result = 0.0, None
    for _ in range(repeats):
        started = time.thread_time()
        result = function()
        slowest = max(slowest, time.thread_time() - started)
    return slowest, result
