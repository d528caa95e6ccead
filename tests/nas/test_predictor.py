"""Losses and training of predictors: orders are learned, a seed gives the same scores, bad labels are refused."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from within.core.errors import WithinError
from within.nas import losses
from within.nas.encoders.gates_edge import GatesEdgeEncoder
from within.nas.predictor import LOSSES, Predictor, scaled_labels, scores, train_predictor
from within.nas.spaces import nasbench201
from within.nas.spaces.nasbench201 import EDGES, SPACE


@pytest.fixture(scope="module")
def cells():
    generator = np.random.default_rng(0)
    found = list({SPACE.random(generator) for _ in range(150)})
    return found, np.array([float(nasbench201.parameters(nasbench201.live(cell))) for cell in found])


def predictor(seed=0):
    torch.manual_seed(seed)
    return Predictor(GatesEdgeEncoder(EDGES, 5, widths=(32,) * 4), (40,))


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_learns_an_order(cells, loss):
    """Of parameters in live operations, on cells that were not seen."""
    architectures, labels = cells
    model = predictor()
    train_predictor(model, architectures[:100], labels[:100], loss=loss, epochs=100, batch_size=50)
    after = kendalltau(scores(model, architectures[100:]), labels[100:])[0]
    assert after > (0.45 if loss == "mse" else 0.7)


def test_the_same_seed_gives_the_same_scores(cells):
    found = []
    for seed in (3, 3, 4):
        model = predictor()
        train_predictor(model, cells[0][:20], cells[1][:20], epochs=2, seed=seed)
        found.append(scores(model, cells[0]))
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_pairs_are_those_that_differ_and_at_most_four_each():
    labels = torch.tensor([0.1, 0.1, 0.5, 0.9])
    assert {tuple(each) for each in losses.pairs(labels).T.tolist()} == {(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    many = losses.pairs(torch.rand(50))
    assert many.shape == (2, 200)
    assert (many[0] < many[1]).all()
    assert len({tuple(each) for each in many.T.tolist()}) == 200


def test_losses_of_pairs_by_hand():
    scores_, labels = torch.tensor([0.3, 0.1, 0.35]), torch.tensor([0.0, 1.0, 0.5])
    terms = []
    for i, j in itertools.combinations(range(3), 2):
        sign = 1 if labels[j] > labels[i] else -1
        terms.append(max(0.0, 0.1 - sign * float(scores_[j] - scores_[i])))
    assert float(losses.hinge(scores_, labels)) == pytest.approx(sum(terms) / 3)
    terms = [
        -math.log(1 / (1 + math.exp(-(1 if labels[j] > labels[i] else -1) * float(scores_[j] - scores_[i]))))
        for i, j in itertools.combinations(range(3), 2)
    ]
    assert float(losses.bce(scores_, labels)) == pytest.approx(sum(terms) / 3)
    order = [1, 2, 0]
    values = [math.exp(float(scores_[each])) for each in order]
    expected = -sum(math.log(values[at] / sum(values[at:])) for at in range(3)) / 3
    assert float(losses.listmle(scores_, labels, 3)) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [losses.hinge, losses.bce])
def test_a_batch_without_pairs_is_no_loss(loss):
    """And no NaN, which a mean over nothing would give."""
    values = torch.zeros(3, requires_grad=True)
    found = loss(values, torch.ones(3))
    found.backward()
    assert found.item() == 0
    assert not values.grad.any()


def test_what_cannot_be_learned(cells):
    architectures, labels = cells
    for given, match in (
        ((architectures[:1], labels[:1]), "1 architecture to learn an order from"),
        ((architectures[:3], labels[:2]), "2 labels for 3 architectures"),
        ((architectures[:3], np.array([1, np.nan, 2])), "NaN or infinite"),
        ((architectures[:3], np.ones(3)), "All labels are 1.0"),
    ):
        with pytest.raises(WithinError, match=match):
            train_predictor(predictor(), *given)
    with pytest.raises(WithinError, match="no loss 'hing'"):
        train_predictor(predictor(), architectures[:3], labels[:3], loss="hing")


def test_labels_between_0_and_1():
    """Accuracies stay what they are, per cent too; anything else is stretched from the least to the greatest."""
    cells = [(number,) for number in range(3)]
    for labels, expected in (
        ([0.1, 0.94, 0.5], [0.1, 0.94, 0.5]),
        ([10.0, 94.0, 50.0], [0.1, 0.94, 0.5]),
        ([-3.0, -1.0, -2.0], [0.0, 1.0, 0.5]),
        ([100.0, 300.0, 200.0], [0.0, 1.0, 0.5]),
    ):
        np.testing.assert_allclose(scaled_labels(cells, np.array(labels)), expected)
