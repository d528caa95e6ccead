"""The ensemble: a weighted sum of its experts, each of which learns its own label, missing ones left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from within.core.errors import WithinError
from within.nas.dele import DynamicEnsemble, train_ensemble, train_experts
from within.nas.encoders.gates_edge import GatesEdgeEncoder
from within.nas.predictor import scores
from within.nas.spaces import nasbench201
from within.nas.spaces.nasbench201 import EDGES, SPACE


def ensemble(experts, **options):
    torch.manual_seed(0)
    return DynamicEnsemble(experts, lambda: GatesEdgeEncoder(EDGES, 5, widths=(32,) * 4), (40,), **options)


@pytest.fixture(scope="module")
def cells():
    generator = np.random.default_rng(0)
    found = list({SPACE.random(generator) for _ in range(160)})
    parameters = np.array([float(nasbench201.parameters(nasbench201.live(cell))) for cell in found])
    skips = np.array([float(sum(op == nasbench201.SKIP for op in cell)) for cell in found])
    return found, parameters, skips


@pytest.mark.parametrize("dynamic", [True, False])
def test_the_score_is_the_weighted_sum(dynamic):
    model = ensemble(3, dynamic=dynamic).eval()
    given = torch.randint(0, 5, (7, 6), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        weights, opinions = model.weights(given), model.opinions(given)
        torch.testing.assert_close(weights.sum(1), torch.ones(7))
        torch.testing.assert_close(model(given), (weights * opinions).sum(1))
        for number, expert in enumerate(model.experts):
            torch.testing.assert_close(opinions[:, number], expert(given))


def test_each_expert_learns_its_label_and_missing_ones_change_nothing(cells):
    """The second label is missing for half of the cells, where its sign would be wrong."""
    architectures, parameters, skips = cells
    labels = np.stack([parameters, skips], axis=1)
    labels[50:100, 1] = np.nan
    model = ensemble(2)
    before = {name: value.clone() for name, value in model.gate.state_dict().items()}
    train_experts(model, architectures[:100], labels[:100], epochs=100, batch_size=50)
    assert all(torch.equal(value, before[name]) for name, value in model.gate.state_dict().items())
    for expert, label in zip(model.experts, (parameters, skips), strict=True):
        assert kendalltau(scores(expert, architectures[100:]), label[100:])[0] > 0.45


def test_a_good_start_helps_when_labels_are_few(cells):
    """Ten true labels; the experts have seen a related one of a hundred cells."""
    architectures, parameters, skips = cells
    truth = parameters - 1e5 * skips
    taus = []
    for prepared in (False, True):
        model = ensemble(2)
        if prepared:
            train_experts(model, architectures[:100], np.stack([parameters, -skips], axis=1)[:100], epochs=60)
        train_ensemble(model, architectures[:10], truth[:10], epochs=60)
        taus.append(kendalltau(scores(model, architectures[100:]), truth[100:])[0])
    assert taus[1] > taus[0] + 0.05


def test_labels_that_cannot_be(cells):
    architectures, parameters, skips = cells
    with pytest.raises(WithinError, match=r"Labels of \(160, 2\) for 160 architectures and 3 experts"):
        train_experts(ensemble(3), architectures, np.stack([parameters, skips], axis=1))
    with pytest.raises(WithinError, match="The label of expert 1 takes fewer than two values"):
        train_experts(ensemble(2), architectures, np.stack([parameters, np.full(160, 3.0)], axis=1))
