"""Cheap predictors: orders are learned, from incomplete columns too, and a search takes them as they are."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.stats import kendalltau

from within.core.errors import WithinError
from within.nas.baselines import learn_boosting, learn_forest, learn_ridge
from within.nas.features import joined, looked_up, nasbench201_graph
from within.nas.search import predictor_based, random_search
from within.nas.search.history import History
from within.nas.spaces import nasbench201
from within.nas.spaces.nasbench201 import SPACE
from within.nas.tables.nasbench201_table import read
from within.nas.tables.table import Table

LEARN = {
    "forest": partial(learn_forest, trees=50), "boosting": partial(learn_boosting, iterations=60), "ridge": learn_ridge,
}  # fmt: skip


@pytest.fixture(scope="module")
def cells():
    generator = np.random.default_rng(0)
    found = list({SPACE.random(generator) for _ in range(400)})
    return found, np.array([float(nasbench201.macs(nasbench201.live(cell))) for cell in found])


@pytest.mark.parametrize("name", LEARN)
def test_an_order_is_learned(cells, name):
    """Of MACs in live operations; they are themselves a column of the graph, and hard to see in the genes."""
    architectures, labels = cells
    taus = {}
    for features in (None, nasbench201_graph):
        score = LEARN[name](architectures[:200], labels[:200], 0, features=features)
        taus[features] = kendalltau(score(architectures[200:]), labels[200:])[0]
    assert taus[None] > 0.6
    assert taus[nasbench201_graph] > 0.9


@pytest.mark.parametrize("name", LEARN)
def test_incomplete_columns_help_where_they_are(cells, name):
    """A label of its own that no gene shows, missing for four cells of ten."""
    architectures, _ = cells
    generator = np.random.default_rng(1)
    labels = generator.normal(size=len(architectures))
    cheap = np.where(generator.random(len(labels)) < 0.4, np.nan, labels)
    table = Table(SPACE, tuple(architectures), {"cheap": cheap, "never": np.full(len(labels), np.nan)})
    features = joined(SPACE.one_hot, looked_up(table, ["cheap", "never"]))
    found = LEARN[name](architectures[:200], labels[:200], 0, features=features)(architectures[200:])
    there = np.isfinite(cheap[200:])
    assert kendalltau(found[there], labels[200:][there])[0] > 0.6
    assert abs(kendalltau(found[~there], labels[200:][~there])[0]) < 0.25
    assert np.isfinite(found).all()


@pytest.mark.parametrize("name", LEARN)
def test_only_the_order_of_labels_matters(cells, name):
    architectures, labels = cells
    one, two, again = (
        LEARN[name](architectures[:100], each, 3, features=nasbench201_graph)(architectures)
        for each in (labels[:100], np.exp(labels[:100] / 1e7), labels[:100])
    )
    assert np.array_equal(one, two)
    assert np.array_equal(one, again)


@pytest.mark.parametrize("name", LEARN)
def test_a_search_takes_them_as_they_are(name):
    def evaluate(cells):
        return [{"accuracy": float(nasbench201.macs(nasbench201.live(cell)))} for cell in cells]

    learn = partial(LEARN[name], features=nasbench201_graph)
    found = predictor_based.search(SPACE, History(evaluate, 50), learn, each=10, looked_at=50, seed=1)
    chance = random_search.search(SPACE, History(evaluate, 50), seed=1)
    assert len(found) == 50
    assert found.values("accuracy").max() > chance.values("accuracy").max()


def test_labels_and_features_that_cannot_be(cells):
    architectures, labels = cells
    with pytest.raises(WithinError, match=r"Labels of \(3,\) for 4"):
        learn_forest(architectures[:4], labels[:3])
    with pytest.raises(WithinError, match=r"NaN or infinite.*row 1"):
        learn_ridge(architectures[:3], np.array([1, np.inf, 2]))
    with pytest.raises(WithinError, match=r"infinite.*row 0, column 1"):
        learn_boosting(architectures[:2], labels[:2], features=lambda cells: np.array([[0, np.inf]] * 2))
    with pytest.raises(WithinError, match=r"Features of \(1, 2\) for 2"):
        learn_boosting(architectures[:2], labels[:2], features=lambda cells: np.zeros((1, 2)))
    with pytest.raises(WithinError, match="No feature"):
        learn_boosting(architectures[:2], labels[:2], features=lambda cells: np.full((2, 2), np.nan))
    assert len(learn_ridge(architectures[:5], labels[:5])([])) == 0


def test_on_measured_accuracies(data):
    """A hundred and more cells of NAS-Bench-201: what the graph says beats the genes, and cheap labels beat both."""
    table = read(data("nas") / "nasbench201.parquet")
    known, others = table.rows(range(150)), table.rows(range(8000, 10000))
    zero_cost = looked_up(table, [name for name in table.columns if name.startswith("zc_")])
    taus = []
    for features in (None, nasbench201_graph, joined(nasbench201_graph, zero_cost)):
        score = learn_forest(known.architectures, known.labels("cifar10_test_acc_200ep"), features=features)
        taus.append(kendalltau(score(others.architectures), others.labels("cifar10_test_acc_200ep"))[0])
    assert taus[1] > taus[0] + 0.05
    assert taus[2] > taus[1] + 0.03
