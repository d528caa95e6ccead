"""Searches: queries are counted, none is spent twice, limits hold, and an interrupted search goes on."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

from within.core.errors import WithinError
from within.nas.evaluations import Evaluations
from within.nas.search import annealing, predictor_based, random_search, regularised_evolution
from within.nas.search.history import History
from within.nas.search.inner import INNER
from within.nas.search.limits import Limit, Limits
from within.nas.spaces import Space, nasbench201
from within.nas.spaces.nasbench201 import SPACE

SEARCHES = {
    "random": random_search.search,
    "evolution": regularised_evolution.search,
    "annealing": annealing.search,
    **{
        f"predictor, {inner}": lambda space, history, inner=inner, **given: predictor_based.search(
            space, history, oracle, inner=inner, each=5, **given
        )
        for inner in INNER
    },
}


def accuracy(cell):
    """Stands for an accuracy."""
    return sum((1, 2, 5, 7, 3)[op] * weight for op, weight in zip(cell, (3, 1, 4, 1, 5, 9), strict=True))


def parameters(cells):
    return np.array([float(nasbench201.parameters(cell)) for cell in cells])


def evaluated(cells):
    return [{"accuracy": float(accuracy(cell)), "parameters": nasbench201.parameters(cell)} for cell in cells]


def oracle(_architectures, _labels, _round):
    """Stands for a predictor that has learned everything."""
    return lambda cells: np.array([float(accuracy(cell)) for cell in cells])


@pytest.mark.parametrize("name", SEARCHES)
def test_queries_are_counted_and_none_is_spent_twice(name):
    asked = []

    def evaluate(cells):
        asked.extend(cells)
        return evaluated(cells)

    history = SEARCHES[name](SPACE, History(evaluate, 60), seed=1)
    assert len(asked) == len(set(asked)) == len(history) == 60
    assert asked == history.architectures
    best = history.best_so_far("accuracy")
    assert (np.diff(best) >= 0).all()
    assert best[-1] == max(accuracy(cell) for cell in asked)
    again = SEARCHES[name](SPACE, History(evaluated, 60), seed=1)
    assert again.architectures == history.architectures


@pytest.mark.parametrize("name", ["evolution", "annealing", "predictor, random", "predictor, evolution"])
def test_better_than_chance(name):
    """Medians of nine seeds."""
    found = {
        each: np.median(
            [SEARCHES[each](SPACE, History(evaluated, 250), seed=seed).values("accuracy").max() for seed in range(9)]
        )
        for each in ("random", name)
    }
    assert found[name] > found["random"]


def test_a_perfect_predictor_finds_the_best_at_once():
    history = predictor_based.search(SPACE, History(evaluated, 11), oracle, start=10, each=1, inner="all")
    assert history.best_so_far("accuracy")[-1] == max(map(accuracy, SPACE.all()))


@pytest.mark.parametrize("inner", INNER)
def test_limits_hold(inner):
    limit = 400_000
    history = predictor_based.search(
        SPACE, History(evaluated, 40), oracle, inner=inner, each=5,
        limits=Limits(SPACE, [Limit("parameters", limit, parameters)]),
    )  # fmt: skip
    assert len(history) == 40
    assert history.values("parameters").max() <= limit


def test_a_space_that_is_gone_through_ends_the_search():
    tiny = Space("tiny", SPACE.genes[:2])

    def totals(cells):
        return [{"accuracy": float(sum(cell))} for cell in cells]

    def learn(_architectures, _labels, _round):
        return lambda cells: np.array([sum(cell) for cell in cells])

    assert len(random_search.search(tiny, History(totals, 60))) == 25
    assert len(regularised_evolution.search(tiny, History(totals, 60), population=5)) <= 25
    assert len(annealing.search(tiny, History(totals, 60))) == 25
    for inner in INNER:
        assert len(predictor_based.search(tiny, History(totals, 60), learn, start=5, each=3, inner=inner)) <= 25


def test_an_interrupted_search_goes_on_without_evaluating_again(tmp_path):
    whole = regularised_evolution.search(SPACE, History(evaluated, 150), seed=3)
    path, asked = tmp_path / "runs" / "a.sqlite", []

    def failing(cells):
        if len(asked) == 70:
            raise KeyboardInterrupt
        asked.extend(cells)
        return evaluated(cells)

    with Evaluations(path, "test") as store, pytest.raises(KeyboardInterrupt):
        regularised_evolution.search(SPACE, History(failing, 150, store), seed=3)

    def counted(cells):
        asked.extend(cells)
        return evaluated(cells)

    with Evaluations(path, "test") as store:
        assert len(store) == 70
        again = regularised_evolution.search(SPACE, History(counted, 150, store), seed=3)
        assert [cell for cell, _ in store] == again.architectures == whole.architectures
    assert len(asked) == len(set(asked)) == 150


def test_files_that_cannot_be(tmp_path):
    path = tmp_path / "a.sqlite"
    path.write_text("no database, but long enough to be taken for one" * 50)
    with pytest.raises(WithinError, match="no file of evaluations"):
        Evaluations(path, "a")
    path.unlink()
    Evaluations(path, "a").close()
    with pytest.raises(WithinError, match="holds evaluations of 'a', not of 'b'"):
        Evaluations(path, "b")
    with sqlite3.connect(path) as connection:
        connection.execute("pragma user_version=99")
    with pytest.raises(WithinError, match="newer version"):
        Evaluations(path, "a")
