"""Comparators: no order of asking matters, consistent answers give the exact order, and orders are learned."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from within.core.errors import WithinError
from within.nas.comparator import LOSSES, PAIRINGS, Comparator, quicksort, ranked, scores, train_comparator
from within.nas.encoders.gates_edge import GatesEdgeEncoder
from within.nas.spaces import nasbench201
from within.nas.spaces.nasbench201 import EDGES, SPACE


@pytest.fixture(scope="module")
def cells():
    generator = np.random.default_rng(0)
    found = list({SPACE.random(generator) for _ in range(150)})
    return found, np.array([float(nasbench201.parameters(nasbench201.live(cell))) for cell in found])


def comparator(**options):
    torch.manual_seed(0)
    return Comparator(GatesEdgeEncoder(EDGES, 5, widths=(32,) * 4), (40,), **options)


@given(values=st.lists(st.integers(0, 30), max_size=60), seed=st.integers(0, 9), segment=st.sampled_from([1, 5, 100]))
def test_consistent_answers_give_the_exact_order(values, seed, segment):
    """Chances that grow with the difference: exact however early the sorting stops; equal ones stand side by side."""
    true = np.array(values, dtype=float)
    order = quicksort(len(true), lambda a, b: 1 / (1 + np.exp(true[a] - true[b])), seed=seed, segment=segment)
    assert sorted(order.tolist()) == list(range(len(true)))
    assert np.array_equal(true[order], np.sort(true))


@given(values=st.permutations(range(60)), seed=st.integers(0, 9))
def test_answers_without_degrees_give_the_exact_order_when_all_is_sorted(values, seed):
    true = np.array(values)
    order = quicksort(60, lambda a, b: np.where(true[b] > true[a], 0.9, 0.1), seed=seed, segment=1)
    assert np.array_equal(true[order], np.arange(60))


def test_all_of_a_level_are_compared_at_once():
    calls = []

    def better(first, second):
        calls.append(len(first))
        return 1 / (1 + np.exp((first - second) / 1000))

    order = quicksort(4000, better, segment=100)
    assert np.array_equal(order, np.arange(4000))
    assert len(calls) < 30
    assert max(calls) < 4000


@pytest.mark.parametrize("answer", [0.5, 0.0, 1.0, math.nan])
def test_useless_answers_end_as_well(answer):
    order = quicksort(300, lambda a, b: np.full(len(a), answer), segment=1)
    assert sorted(order.tolist()) == list(range(300))


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_chances_of_both_orders_add_up_to_one(cells, pairing):
    model = comparator(pairing=pairing).double().eval()
    given_cells = torch.tensor(cells[0])
    first, second = given_cells[:70], given_cells[70:140]
    with torch.no_grad():
        found = model(first, second)
        torch.testing.assert_close(found + model(second, first), torch.ones(70).double(), rtol=1e-14, atol=1e-14)
        assert torch.equal(model(first, first), torch.full((70,), 0.5).double())
        one, two = model.encoder(first), model.encoder(second)
        beside = (two, one) if pairing == "concatenated" else (two - one, one - two)
        there, back = (torch.sigmoid(model.head(torch.cat(each, 1))) for each in zip((one, two), beside, strict=True))
        torch.testing.assert_close(found, ((there + 1 - back) / 2)[:, 0])
    assert float((found - 0.5).abs().max()) > 1e-4


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("loss", LOSSES)
def test_an_order_is_learned(cells, loss, pairing):
    """Of parameters in live operations, on cells that were not seen."""
    architectures, labels = cells
    model = comparator(pairing=pairing)
    train_comparator(model, architectures[:100], labels[:100], loss=loss, epochs=50, batch_size=50)
    found = scores(model, architectures[100:], segment=10)
    assert kendalltau(found, labels[100:])[0] > 0.7
    assert np.array_equal(found, scores(model, architectures[100:], segment=10))
    order = ranked(model, architectures[100:], seed=1, segment=10)
    assert kendalltau(np.argsort(order), labels[100:])[0] > 0.7
    assert model.training


def test_the_loss_of_one_pair_by_hand(cells, monkeypatch):
    """Both orders, the second with the flipped label, summed."""
    import within.nas.comparator as module

    found = {}

    def fit(model, architectures, targets, objective, **_):
        inputs = (torch.tensor(architectures),)
        with torch.no_grad():
            embedded = model.encoder(*inputs)
            found["there"] = float(model.compared(embedded[:1], embedded[1:]))
            found["back"] = float(model.compared(embedded[1:], embedded[:1]))
            found["loss"] = float(objective(model, inputs, torch.tensor(targets))["loss"])
            found["none"] = float(objective(model, inputs, torch.zeros(2))["loss"])

    monkeypatch.setattr(module, "fit_architectures", fit)
    model = comparator().double().eval()
    train_comparator(model, cells[0][:2], np.array([3.0, 1.0]), margin=0.7)
    assert found["loss"] == pytest.approx(max(0, 0.7 + found["there"]) + max(0, 0.7 - found["back"]))
    train_comparator(model, cells[0][:2], np.array([3.0, 1.0]), loss="bce")
    expected = math.log(1 + math.exp(found["there"])) + math.log(1 + math.exp(-found["back"]))
    assert found["loss"] == pytest.approx(expected)
    assert found["none"] == 0


def test_what_cannot_be(cells):
    architectures, labels = cells
    with pytest.raises(WithinError, match="no pairing 'sum'"):
        comparator(pairing="sum")
    for labels_, match in (
        (labels[:2], "2 labels for 3"),
        (np.array([1, np.nan, 2]), "NaN or infinite"),
        (np.ones(3), "All labels are 1"),
    ):
        with pytest.raises(WithinError, match=match):
            train_comparator(comparator(), architectures[:3], labels_)
    with pytest.raises(WithinError, match="no loss 'mse' of a pair"):
        train_comparator(comparator(), architectures[:3], labels[:3], loss="mse")
    assert len(ranked(comparator(), [])) == 0
