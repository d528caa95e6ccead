"""Memory-oriented pruning: the limit always holds, the strides move, and infeasible limits say what holds them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from within.core import PeakMemory, load, trace
from within.core.device.memory import live_graph_measured
from within.core.pruning import save_model
from within.core.pruning.sensitivity import SensitivityCurve
from within.core.pruning.widths import WidthRules
from within.core.solve import InfeasibleBudget
from within.lowlevel import baselines, mosp
from within.lowlevel.fit_memory import METHODS, fit_memory, measure_network
from within.lowlevel.models import build

WIDTHS = (8, 12, 16)
IMAGE = torch.zeros(1, 3, 64, 64)
GRAPH = trace(build("unet", widths=WIDTHS), (IMAGE,))
DENSE = PeakMemory()(GRAPH)


def _curves(seed: int) -> dict[str, SensitivityCurve]:
    generator = np.random.default_rng(seed)
    curves = {}
    for group in GRAPH.channel_groups():
        widths = np.arange(1, group.size + 1)
        losses = generator.random() * (group.size / widths - 1)
        curves[group.name] = SensitivityCurve(tuple(widths.tolist()), tuple(losses.tolist()), tuple(losses.tolist()))
    return curves


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.35, 0.99), st.sampled_from([1, 2, 4]), st.floats(0.02, 0.3))
def test_the_limit_holds_for_every_method(seed: int, fraction: float, step: int, stride: float) -> None:
    """Would catch rounding that breaks the budget, and a loop that stalls where several operators tie at the peak."""
    rules, curves, limit = WidthRules(step=step), _curves(seed), fraction * DENSE
    assume(PeakMemory()(GRAPH, rules.least(GRAPH)) <= limit)
    solutions = {
        "strides": mosp.strides(GRAPH, limit, curves, rules, stride=stride).widths,
        "whole": mosp.whole(GRAPH, limit, curves, rules).widths,
        "uniform": baselines.uniform(GRAPH, limit, rules),
        "macs": baselines.macs(GRAPH, limit, curves, rules),
        "magnitude": baselines.magnitude(GRAPH, limit, rules),
    }
    for widths in solutions.values():
        assert PeakMemory()(GRAPH, widths) <= limit
        assert (widths >= rules.least(GRAPH)).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(0.4, 0.9))
def test_the_integer_programme_loses_least(seed: int, fraction: float) -> None:
    """Would catch a method that beats the claimed optimum over the same widths."""
    rules, curves, limit = WidthRules(step=1), _curves(seed), fraction * DENSE
    best = mosp.whole(GRAPH, limit, curves, rules)
    other = mosp.strides(GRAPH, limit, curves, rules)
    assert best.loss <= other.loss * (1 + 1e-9) + 1e-12


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_memory_is_linear_along_a_group_in_every_row(data: st.DataObject) -> None:
    """M_tau(k) = constants + coefficients @ k, exactly, for any widths (the key fact of the formulation)."""
    widths = np.array([data.draw(st.integers(1, group.size)) for group in GRAPH.channel_groups()])
    rows, constants = PeakMemory().rows(GRAPH)
    np.testing.assert_allclose(constants + rows @ widths, PeakMemory().timeline(GRAPH, widths).bytes, rtol=1e-12)


def test_an_infeasible_limit_names_the_operator() -> None:
    with pytest.raises(InfeasibleBudget):
        mosp.strides(GRAPH, 1000, _curves(0), WidthRules(step=1))
    with pytest.raises(InfeasibleBudget):
        mosp.whole(GRAPH, 1000, _curves(0), WidthRules(step=1))


@pytest.mark.parametrize("method", METHODS)
def test_a_fitted_network_keeps_its_limit_and_comes_back_from_disk(method: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Measured with the storage counter on the slim network itself, then saved, rebuilt and compared to the bit."""
    torch.manual_seed(0)
    model = build("unet", widths=WIDTHS).eval()
    batches = [torch.rand(4, 3, 32, 32)]
    limit = 0.6 * DENSE
    fit = fit_memory(model, (IMAGE,), batches, limit, method=method, rules=WidthRules(step=1))  # type: ignore[arg-type]
    assert live_graph_measured(fit.model, (IMAGE,)).bytes == fit.peak <= limit
    assert fit.masked_slim_error < 1e-5
    save_model(fit.model, fit.plan, tmp_path)
    again = load(tmp_path, lambda: build("unet", widths=WIDTHS)).eval()
    image = torch.rand(2, 3, 48, 64)
    with torch.no_grad():
        assert torch.equal(fit.model.eval()(image), again(image))


def test_measuring_a_network_does_not_change_it() -> None:
    model = build("unet", widths=WIDTHS).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure_network(model, (IMAGE,), [torch.rand(2, 3, 32, 32)], compactors=True)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
