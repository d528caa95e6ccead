"""Limits: known costs never exceed them, others are foretold, what nobody meets is refused at once."""

from __future__ import annotations

import time

import numpy as np
import pytest

from within.core.errors import WithinError
from within.nas.search import annealing, nsga2, predictor_based, random_search, regularised_evolution
from within.nas.search.history import History
from within.nas.search.limits import Limit, Limits, best_within, least_cost, values_within
from within.nas.spaces import mobile_net, nasbench101, nasbench201
from within.nas.spaces.nasbench201 import SPACE

WEIGHTS = (3, 1, 4, 1, 5, 9)


def accuracy(cell):
    return float(sum((1, 2, 5, 7, 3)[op] * weight for op, weight in zip(cell, WEIGHTS, strict=True)))


def latency(cell):
    """Stands for a device; not a sum over genes."""
    return float(sum((0, 1, 4, 9, 3)[op] for op in cell) + (cell[0] == cell[5]) * 2)


def parameters(cells):
    return np.array([float(nasbench201.parameters(cell)) for cell in cells])


def evaluated(cells):
    return [{"accuracy": accuracy(cell), "latency": latency(cell), "params": parameters([cell])[0]} for cell in cells]


def learn(_architectures, _labels, _round):
    return lambda cells: np.array([accuracy(cell) for cell in cells])


SEARCHES = {
    "random": random_search.search,
    "evolution": lambda *given, **named: regularised_evolution.search(*given, population=20, **named),
    "annealing": annealing.search,
    "nsga2": lambda *given, **named: nsga2.search(*given, signs={"accuracy": 1}, population=20, **named),
    "predictor": lambda space, history, **named: predictor_based.search(space, history, learn, inner="all", **named),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_known_costs_are_kept_by_every_search(name):
    limits = Limits(SPACE, [Limit("params", 5e5, parameters)])
    history = SEARCHES[name](SPACE, History(evaluated, 60), limits=limits, seed=2)
    assert len(history) == 60
    assert history.values("params").max() <= 5e5


@pytest.mark.parametrize("name", SEARCHES)
def test_measured_costs_are_learned_and_never_broken_by_the_result(name):
    limit = 14.0
    limits = Limits(SPACE, [Limit("latency", limit)])
    history = SEARCHES[name](SPACE, History(evaluated, 150), limits=limits, seed=2)
    found = best_within(history, "accuracy", limits)
    assert found is not None
    assert found[1]["latency"] <= limit
    held = history.values("latency") <= limit
    # Four in a hundred cells are within the limit; once that is learned, most that are evaluated are.
    assert held[75:].mean() > 3 * np.mean([latency(cell) <= limit for cell in SPACE.all()])
    curve = values_within(history, "accuracy", limits)
    assert curve[-1] == found[1]["accuracy"] == history.values("accuracy")[held].max()


def test_the_optimum_within_a_limit_is_found():
    limit = 20.0
    best = max(accuracy(cell) for cell in SPACE.all() if latency(cell) <= limit)
    limits = Limits(SPACE, [Limit("latency", limit)])
    history = predictor_based.search(SPACE, History(evaluated, 200), learn, inner="all", limits=limits)
    found = best_within(history, "accuracy", limits)
    assert found is not None
    assert found[1]["accuracy"] >= 0.97 * best


def test_a_limit_that_nobody_meets_is_refused_at_once():
    started = time.perf_counter()
    with pytest.raises(WithinError, match=r"params <= 1000: the least is 73306.*raise it to 73306"):
        Limits(SPACE, [Limit("params", 1000.0, parameters)])
    with pytest.raises(
        WithinError, match="No architecture of MobileNetV3 meets macs <= 1000000: the least is 41476224"
    ):
        Limits(mobile_net.SPACE, [Limit("macs", 1e6, macs_of_mobile_nets)])
    assert time.perf_counter() - started < 30  # far more than it takes; the benchmark measures it


def macs_of_mobile_nets(cells):
    return np.array([float(mobile_net.macs(cell)) for cell in cells])


def test_the_least_cost_of_a_large_space_is_found():
    least = least_cost(mobile_net.SPACE, macs_of_mobile_nets)
    resolutions = mobile_net.SPACE.genes[-1].values
    assert least == mobile_net.macs(mobile_net.uniform(3, 3, 2, min(resolutions)))
    smallest = least_cost(nasbench101.SPACE, lambda cells: np.array([nasbench101.parameters(cell) for cell in cells]))
    assert smallest == 227_274  # of the published table; one edge at a time does not lead there


def test_a_search_whose_limit_nobody_measured_meets_has_no_best():
    limits = Limits(SPACE, [Limit("latency", -1.0)])
    history = random_search.search(SPACE, History(evaluated, 30), limits=limits)
    assert best_within(history, "accuracy", limits) is None
    assert np.isneginf(values_within(history, "accuracy", limits)).all()
