"""`Latency`: a sum over kernels, measured when missing, calibrated to whole models, and met as measured."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.core.networks import Composed, image, seeded
from torch import nn

from within.core.cost import Budget, Latency, Macs, latency_validation
from within.core.cost import latency as latency_module
from within.core.cost.latency_validation import calibrate, calibrate_and_validate, uniform_decisions, validate
from within.core.device.kernels import Kernel
from within.core.device.kernels.timing import KernelTime, ModelTime
from within.core.device.measure import Timing
from within.core.errors import WithinError
from within.core.graph import Graph, trace
from within.core.pruning import Certificate, Plan, PruneResult, measured_latency
from within.core.pruning.measured_latency import meet_latency

PATTERNS = [("ConvNorm", 32), ("Residual", 24), ("Concatenated", 16)]


def synthetic_time(kernel: Kernel) -> float:
    """A time in milliseconds that a kernel might take."""
    return 0.01 + kernel.bytes / 1e5


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Kernel]:
    """Replaces the clock by `synthetic_time`; holds the kernels that were timed."""
    timed: list[Kernel] = []

    def time_kernels(kernels: Sequence[Kernel], *_: object, **__: object) -> dict[Kernel, KernelTime]:
        timed.extend(kernels)
        return {kernel: KernelTime(synthetic_time(kernel), 0.0, 9) for kernel in kernels}

    monkeypatch.setattr(latency_module, "time_kernels", time_kernels)
    monkeypatch.setattr(latency_module, "time_reference", lambda *_: KernelTime(1.0, 0.01, 9))
    return timed


@pytest.fixture
def graph() -> Graph:
    return trace(seeded(Composed(PATTERNS, "pooled", stem=16)), image())


@pytest.fixture
def latency(tmp_path: Path, measured: list[Kernel]) -> Latency:
    return Latency(table=tmp_path / "table.sqlite")


def halves(graph: Graph) -> dict[str, int]:
    return {group.name: max(1, group.size // 2) for group in graph.channel_groups()}


def test_the_cost_is_the_sum_of_its_kernels(latency: Latency, graph: Graph):
    """For the dense model, a decision by name, and a width vector."""
    for decision in (None, halves(graph), graph.width_vector(halves(graph))):
        expected = sum(synthetic_time(kernel) for kernel in latency.kernels(graph, decision))
        assert latency(graph, decision) == pytest.approx(expected)
        rows = latency.breakdown(graph, decision)
        assert sum(row.count * row.milliseconds for row in rows) == pytest.approx(expected)
    assert latency(graph, halves(graph)) < latency(graph)


def test_each_kernel_is_measured_once(latency: Latency, graph: Graph, measured: list[Kernel]):
    """Not again for the next decision, and not again by the next process."""
    latency(graph)
    latency(graph, halves(graph))
    count = len(measured)
    assert count == len(set(measured))
    latency(graph)
    Latency(table=latency.table.path)(graph, halves(graph))
    assert len(measured) == count
    assert latency.fill(graph, [None, halves(graph)]) == 0


def test_missing_kernels_are_an_error_when_nothing_may_be_measured(latency: Latency, graph: Graph):
    """A prediction without its measurements would be a guess."""
    fixed = Latency(table=latency.table.path, measure_missing=False)
    with pytest.raises(WithinError, match="not in the latency table"):
        fixed(graph)
    latency(graph)
    assert Latency(table=latency.table.path, measure_missing=False)(graph) == latency(graph)


def test_bad_arguments_are_clear_errors(tmp_path: Path, graph: Graph):
    for options in ({"threads": 0}, {"scale": 0.0}, {"constant": float("nan")}, {"runtime": "abacus"}):
        with pytest.raises(WithinError):
            Latency(table=tmp_path / "t", **options)
    with pytest.raises(WithinError, match="one by one"):
        Latency("torch_compile", table=tmp_path / "t").kernels(graph)
    double = trace(nn.Linear(4, 4).double(), (torch.rand(1, 4, dtype=torch.float64),))
    with pytest.raises(WithinError, match="float32"):
        Latency(table=tmp_path / "t").kernels(double)


def test_a_cost_survives_pickling(latency: Latency, graph: Graph):
    """Worker processes get it that way."""
    calibrated = latency.with_calibration(1.1, 0.2, 0.03)
    again = pickle.loads(pickle.dumps(calibrated))
    assert (again.scale, again.constant, again.error, again.name) == (1.1, 0.2, 0.03, calibrated.name)
    assert again(graph) == calibrated(graph)


def test_a_calibrated_prediction_never_falls_below_half_of_its_kernels(latency: Latency, graph: Graph):
    """A negative constant must not make a small model free."""
    total = latency(graph)
    assert latency.with_calibration(2.0, 0.5)(graph) == pytest.approx(2 * total + 0.5)
    assert latency.with_calibration(1.0, -10 * total)(graph) == pytest.approx(total / 2)


def pretend_measurement(monkeypatch: pytest.MonkeyPatch, scale: float, constant: float, noise: float = 0.0) -> None:
    """Lets whole models take scale * kernels + constant milliseconds, with relative noise."""
    random = np.random.default_rng(0)

    def measure(latency: Latency, graph: Graph, vectors: Sequence[np.ndarray], **_: object):
        def found(vector: np.ndarray | None) -> ModelTime:
            time = scale * sum(map(synthetic_time, latency.kernels(graph, vector))) + constant
            return ModelTime.of([time * (1 + noise * random.standard_normal())] * 5)

        return [found(vector) for vector in vectors], found(None)

    monkeypatch.setattr(latency_validation, "measure_decisions", measure)


def test_calibration_finds_the_scale_of_whole_models(latency: Latency, graph: Graph, monkeypatch: pytest.MonkeyPatch):
    """What remains is smaller than what calibration took away, on decisions that it has not seen."""
    dense = latency(graph)
    pretend_measurement(monkeypatch, 1.3, 0.01 * dense)
    calibrated = calibrate(latency, graph)
    assert calibrated.scale == pytest.approx(1.3, rel=0.02)
    assert calibrated.error is not None
    assert calibrated.error < 0.01
    result = validate(calibrated, graph, [halves(graph)])
    assert result.percentile_90 < 0.01 < validate(latency, graph, [halves(graph)]).median_error
    assert calibrate(calibrated, graph).scale == pytest.approx(calibrated.scale)  # from the kernels, not on top


def test_the_reported_error_is_that_of_the_measurements(
    latency: Latency, graph: Graph, monkeypatch: pytest.MonkeyPatch
):
    """Median, 90th percentile and bias of predicted over measured."""
    pretend_measurement(monkeypatch, 1.1, 0.0)
    result = validate(latency, graph, [halves(graph), None])
    for value in (result.median_error, result.percentile_90, -result.bias):
        assert value == pytest.approx(1 - 1 / 1.1)
    assert result.dense.widths == tuple(graph.width_vector())


def test_calibration_and_validation_in_one_go(latency: Latency, graph: Graph, monkeypatch: pytest.MonkeyPatch):
    """Validated on the given decisions alone."""
    pretend_measurement(monkeypatch, 0.8, 0.0, noise=0.002)
    calibrated, result = calibrate_and_validate(latency, graph, [halves(graph)])
    assert calibrated.scale == pytest.approx(0.8, rel=0.05)
    assert [comparison.widths for comparison in result.comparisons] == [tuple(graph.width_vector(halves(graph)))]
    assert result.median_error < 0.03
    with pytest.raises(WithinError, match="nothing to validate"):
        calibrate_and_validate(latency, graph, [])
    with pytest.raises(WithinError, match="nothing to validate"):
        validate(latency, graph, [])


def test_uniform_decisions_stay_within_the_groups(graph: Graph):
    """Groups smaller than the step included."""
    for vector in uniform_decisions(graph, step=8):
        assert (vector >= 1).all()
        assert (vector <= graph.width_vector()).all()


class Deployment:
    """A search by uniform cuts, and machines on which cut models take `factor` times their prediction."""

    def __init__(self, latency: Latency, graph: Graph, factor: float) -> None:
        self.latency, self.graph, self.factor = latency, graph, factor
        self.widths: dict[str, int] = {}

    def solve(self, budget: Budget) -> PruneResult:
        """Returns the widest uniform cut within a predicted budget."""
        assert budget.limit is not None
        for share in np.linspace(1, 0.02, 99):
            self.widths = {group.name: max(1, round(share * group.size)) for group in self.graph.channel_groups()}
            if self.latency(self.graph, self.widths) <= budget.limit:
                break
        certificate = Certificate((), (), 0.0, 0.0)
        return PruneResult(self.graph.model, Plan("", []), certificate, self.graph, self.widths)

    def measure(self, *_: object, **__: object) -> tuple[Timing, Timing]:
        """Stands for `relative_latency`."""
        dense = self.latency(self.graph)
        ratio = self.factor * self.latency(self.graph, self.widths) / dense
        return _timing(dense, 1.0), _timing(dense * ratio, ratio)


def _timing(milliseconds: float, ratio: float) -> Timing:
    seconds, interval = milliseconds / 1e3, (ratio * 0.995, ratio * 1.005)
    return Timing("slim", "none", seconds, 0.0, seconds, seconds, seconds, ratio, interval, (seconds,))


@pytest.mark.parametrize("factor", [0.85, 1.0, 1.08, 1.2])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_budget_is_met_as_measured_though_the_prediction_is_off(
    tmp_path: Path,
    measured: list[Kernel],
    monkeypatch: pytest.MonkeyPatch,
    factor: float,
    absolute: bool,
):
    """Below the target with the whole interval, and nearly all of it used."""
    graph = trace(seeded(Composed([("ConvNorm", 96), ("Residual", 96)], "pooled", stem=64)), image())
    latency = Latency("torch", table=tmp_path / "t")
    deployment = Deployment(latency, graph, factor)
    monkeypatch.setattr(measured_latency, "relative_latency", deployment.measure)
    budget = Budget(latency, limit=0.6 * latency(graph)) if absolute else Budget(latency, fraction=0.6)
    met = meet_latency(deployment.solve, budget, graph)
    assert met.target == pytest.approx(0.6)
    assert met.timing.ratio_interval[1] <= 0.6
    assert met.timing.ratio >= 0.6 * 0.93
    assert any(attempt.measured == met.timing.ratio for attempt in met.attempts)


def test_a_budget_that_is_never_measured_is_an_error(
    tmp_path: Path, measured: list[Kernel], graph: Graph, monkeypatch: pytest.MonkeyPatch
):
    """The last attempt is not passed off as a success."""
    latency = Latency("torch", table=tmp_path / "t")
    deployment = Deployment(latency, graph, 1.0)
    monkeypatch.setattr(measured_latency, "relative_latency", lambda *_, **__: (_timing(1, 1.0), _timing(0.9, 0.9)))
    with pytest.raises(WithinError, match="measured within"):
        meet_latency(deployment.solve, Budget(latency, fraction=0.5), graph, attempts=2)
    with pytest.raises(WithinError, match="not a measured latency"):
        meet_latency(deployment.solve, Budget(Macs(), limit=1e9), graph)


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_a_real_model_is_timed_kernel_by_kernel_and_whole(tmp_path: Path, runtime: str):
    """All the machinery once, without any claim on the numbers but that they are times."""
    graph = trace(seeded(Composed([("ConvNorm", 16)], "pooled", stem=16)), image())
    latency = Latency(runtime, table=tmp_path / "t")
    result = latency.validate(graph, [halves(graph)], repeats=3)
    assert result.dense.predicted == latency(graph) > 0
    assert all(comparison.measured > 0 for comparison in result.comparisons)
    low, high = result.dense.interval
    assert low <= result.dense.measured <= high
    assert Latency(runtime, table=tmp_path / "t", measure_missing=False)(graph) == latency(graph)
