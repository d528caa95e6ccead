"""Least-squares repair and the elimination order: the optimality that they claim."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from within.core import trace
from within.core.pruning.importance.elimination import elimination, elimination_ranks
from within.core.pruning.reconstruction import fit_layer, reconstruct
from within.core.pruning.sensitivity import probe
from within.core.pruning.slim import slim
from within.core.pruning.statistics import Moments, input_moments


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 10, 3, padding=1), nn.ReLU(), nn.Conv2d(10, 3, 1)
    ).eval()


def _moments(samples: torch.Tensor) -> Moments:
    return Moments(samples.T @ samples, samples.sum(0), len(samples))


def test_the_fit_is_the_least_squares_solution() -> None:
    """Against NumPy's solver with an intercept, on the samples themselves."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    samples = torch.randn(500, 8, generator=generator, dtype=torch.float64) @ mixing + 1.0
    matrix = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    kept = np.array([0, 2, 3, 6])
    fitted, shift, residual = fit_layer(matrix, True, _moments(samples), kept, 8)
    design = np.concatenate([samples[:, kept].numpy(), np.ones((500, 1))], axis=1)
    expected, *_ = np.linalg.lstsq(design, (samples @ matrix.T).numpy(), rcond=None)
    np.testing.assert_allclose(fitted[:, kept].numpy(), expected[:-1].T, rtol=5e-2, atol=5e-3)
    assert shift is not None
    np.testing.assert_allclose(shift.numpy(), expected[-1], rtol=5e-2, atol=2e-2)
    assert 0 < residual < 1


def test_a_duplicated_channel_costs_nothing() -> None:
    """Would catch a repair that does not move weights from a removed channel to its twin."""
    model = _model()
    with torch.no_grad():
        model[0].weight[7] = model[0].weight[2]
        model[0].bias[7] = model[0].bias[2]
    images = torch.randn(4, 3, 16, 16)
    graph = trace(model, (images,))
    moments = input_moments(graph, [images])
    group = graph.group("0.weight")
    ranks, errors = elimination_ranks(graph, group, moments)
    assert set(np.argsort(ranks)[:1]) <= {2, 7}
    assert errors[0] < 1e-4  # the ridge keeps it from being zero
    kept = [atom for atom in range(12) if atom != int(np.argmin(ranks))]
    repaired = reconstruct(graph, {group.name: kept}, moments)
    cut = slim(trace(repaired, (images,)), {group.name: kept})
    assert (cut(images) - model(images)).abs().max() < 1e-3


def test_repair_is_better_than_removal() -> None:
    model, images = _model(), torch.randn(4, 3, 16, 16)
    graph = trace(model, (images,))
    moments = input_moments(graph, [images])
    ranks = elimination(graph, moments=moments)
    kept = {
        group.name: sorted(np.argsort(-ranks[group.name])[: group.size // 2].tolist())
        for group in graph.channel_groups()
    }
    repaired = slim(trace(reconstruct(graph, kept, moments), (images,)), kept)
    error = (repaired(images) - model(images)).square().mean()
    assert error < (slim(graph, kept)(images) - model(images)).square().mean()


def test_elimination_errors_grow_and_match_a_direct_fit() -> None:
    """The running error of the elimination equals the residual of refitting the survivors from scratch."""
    model, images = _model(), torch.randn(4, 3, 16, 16)
    graph = trace(model, (images,))
    moments = input_moments(graph, [images])
    group = graph.group("0.weight")
    ranks, errors = elimination_ranks(graph, group, moments)
    assert (np.diff(errors) >= -1e-9).all()
    survivors = np.flatnonzero(ranks >= 6)
    matrix = model[2].weight.detach().double().flatten(1)
    *_, residual = fit_layer(matrix, True, moments["2.weight"], survivors, 12)
    np.testing.assert_allclose(errors[5], residual, rtol=2e-2)


def test_probing_restores_the_model_and_is_monotone() -> None:
    model, images = _model(), torch.randn(4, 3, 16, 16)
    graph = trace(model, (images,))
    before = copy.deepcopy(model.state_dict())
    moments = input_moments(graph, [images])
    curves = probe(graph, elimination(graph, moments=moments), moments, [images])
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    for curve in curves.values():
        assert curve.losses[-1] == 0
        assert (np.diff(curve.losses) <= 1e-12).all()
        assert curve(1) >= curve(curve.widths[-1])
