"""Scores at several times: each learns the label of its own time, missing ones left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from within.core.errors import WithinError
from within.nas.anytime import AnytimePredictor, train_anytime
from within.nas.encoders.named import make_encoder
from within.nas.predictor import scores
from within.nas.spaces import nasbench201
from within.nas.spaces.nasbench201 import SPACE


def predictor(steps=2):
    torch.manual_seed(0)
    encoder = make_encoder("ta_gates", "nasbench201", time_steps=steps, widths=(32,) * 3, backward_widths=(24,) * 3)
    return AnytimePredictor(encoder, (40,))


@pytest.fixture(scope="module")
def cells():
    """Cells and two labels of opposite order."""
    generator = np.random.default_rng(0)
    found = list({SPACE.random(generator) for _ in range(160)})
    parameters = np.array([float(nasbench201.parameters(nasbench201.live(cell))) for cell in found])
    return found, np.stack([-parameters, parameters], axis=1)


@pytest.mark.parametrize("loss", ["hinge", "mse"])
def test_each_time_learns_its_own_label(cells, loss):
    """The labels are of opposite order; a quarter of each is missing, where its sign would be wrong."""
    architectures, labels = cells
    given_labels = labels.copy()
    given_labels[:25, 0] = given_labels[50:75, 1] = np.nan
    model = predictor()
    train_anytime(
        model, architectures[:110], given_labels[:110], loss=loss, epochs=70 if loss == "mse" else 40, batch_size=55
    )
    model.eval()
    with torch.no_grad():
        found = model.each_step(torch.tensor(architectures[110:])).numpy()
    for step in range(2):
        assert kendalltau(found[:, step], labels[110:, step])[0] > 0.55
    np.testing.assert_allclose(scores(model, architectures[110:]), found[:, 1], atol=1e-6)


def test_a_batch_in_which_a_label_is_missing_altogether_is_no_nan(cells):
    architectures, labels = cells
    given_labels = labels[:40].copy()
    given_labels[3:, 0] = np.nan
    model = predictor()
    train_anytime(model, architectures[:40], given_labels, epochs=2, batch_size=2)
    assert all(bool(each.isfinite().all()) for each in model.parameters())


def test_what_cannot_be(cells):
    architectures, labels = cells
    with pytest.raises(WithinError, match=r"Labels of \(160, 2\) for 160 architectures and 3 steps"):
        train_anytime(predictor(3), architectures, labels)
    with pytest.raises(WithinError, match="step 1 takes fewer than two values"):
        train_anytime(predictor(), architectures, np.stack([labels[:, 0], np.ones(160)], axis=1))
    with pytest.raises(WithinError, match="no loss 'hing'"):
        train_anytime(predictor(), architectures, labels, loss="hing")
