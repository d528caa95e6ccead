"""How good a predicted latency is: prediction against measurement of whole models, and the calibration to them.

The models are those that would be deployed: exported, cut to the widths of each decision, and run on the runtime. They
are measured in rounds, interleaved with the dense model and with the reference kernel to whose nominal speed all times
in the table refer:

    measured = median over rounds of (model / reference) * nominal time of the reference

A large model also feels what neighbours do to the shared cache and memory, which the small reference does not. Where
there are too many models for one series of rounds, the dense model is in each series, and the others are related to it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from within.core.cost.cost import Decision, vector_of
from within.core.cost.latency import Latency
from within.core.device.export import export_onnx
from within.core.device.kernels.timing import ModelTime, time_models
from within.core.device.narrow_onnx import narrow_onnx
from within.core.device.runtimes import Runtime
from within.core.device.runtimes import runtime as runtime_named
from within.core.errors import WithinError
from within.core.graph import Graph
from within.core.graph.rewrite import Rewrite
from within.core.progress import track

_DENSE = "dense"
_NOISE = 0.015  # of one measurement, relative
_CONSTANT_SHARE = 0.015
_AT_ONCE = 16  # models in memory and in one series of rounds


@dataclass(frozen=True)
class Comparison:
    """One decision: predicted and measured milliseconds, and the 95 % interval of the measurement."""

    widths: tuple[int, ...]
    predicted: float
    measured: float
    interval: tuple[float, float]

    @property
    def error(self) -> float:
        """(predicted - measured) / measured."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True)
class LatencyValidation:
    """Predictions against measurements.

    Attributes:
        comparisons: one a decision.
        dense: the dense model, measured in the same rounds.
        repeats: rounds.
    """

    comparisons: tuple[Comparison, ...]
    dense: Comparison
    repeats: int

    @property
    def median_error(self) -> float:
        """Median of the absolute relative errors."""
        return float(np.median(self._errors))

    @property
    def percentile_90(self) -> float:
        """90th percentile of the absolute relative errors."""
        return float(np.quantile(self._errors, 0.9))

    @property
    def bias(self) -> float:
        """Median of the signed relative errors."""
        return float(np.median([comparison.error for comparison in self.comparisons]))

    @property
    def _errors(self) -> list[float]:
        return [abs(comparison.error) for comparison in self.comparisons]


def validate(latency: Latency, graph: Graph, decisions: Sequence[Decision], *, repeats: int = 30) -> LatencyValidation:
    """Measures whole models at the given decisions and compares them with the prediction.

    Raises:
        WithinError: when there are no decisions, or a model cannot be exported.
    """
    if not decisions:
        raise WithinError("There is nothing to validate on", todo="pass at least one decision")
    vectors = [_vector(graph, decision) for decision in decisions]
    latency.fill(graph, [None, *vectors])
    measured, dense = measure_decisions(latency, graph, vectors, repeats=repeats)
    return _compare(latency, graph, vectors, measured, dense, repeats)


def calibrate(
    latency: Latency, graph: Graph, decisions: Sequence[Decision] | None = None, *, repeats: int = 30
) -> Latency:
    """Returns the same cost with `scale` and `constant` fitted to whole models (least relative squares), and its error.

    Arguments:
        latency: the cost.
        graph: the traced dense model.
        decisions: what to measure beside the dense model; by default six uniform cuts.
        repeats: rounds.
    """
    plain = latency.with_calibration(1.0, 0.0)
    result = validate(plain, graph, uniform_decisions(graph) if decisions is None else decisions, repeats=repeats)
    return _fitted(latency, result)


def calibrate_and_validate(
    latency: Latency,
    graph: Graph,
    decisions: Sequence[Decision],
    calibration: Sequence[Decision] | None = None,
    *,
    repeats: int = 30,
) -> tuple[Latency, LatencyValidation]:
    """Calibrates on some decisions and validates on others, all measured together.

    The state of the machine, which others change, is then the same for both, and the error is that of the prediction.

    Arguments:
        latency: the cost.
        graph: the traced dense model.
        decisions: what to validate on.
        calibration: what to calibrate on beside the dense model; by default six uniform cuts.
        repeats: rounds.
    """
    if not decisions:
        raise WithinError("There is nothing to validate on", todo="pass at least one decision")
    known = [_vector(graph, item) for item in (uniform_decisions(graph) if calibration is None else calibration)]
    unseen = [_vector(graph, decision) for decision in decisions]
    plain = latency.with_calibration(1.0, 0.0)
    plain.fill(graph, [None, *known, *unseen])
    measured, dense = measure_decisions(plain, graph, [*known, *unseen], repeats=repeats)
    fitted = _fitted(latency, _compare(plain, graph, known, measured[: len(known)], dense, repeats))
    return fitted, _compare(fitted, graph, unseen, measured[len(known) :], dense, repeats)


def _compare(
    latency: Latency,
    graph: Graph,
    vectors: Sequence[NDArray[np.int64]],
    measured: Sequence[ModelTime],
    dense: ModelTime,
    repeats: int,
) -> LatencyValidation:
    def comparison(vector: NDArray[np.int64], found: ModelTime) -> Comparison:
        widths = tuple(int(width) for width in vector)
        return Comparison(widths, latency(graph, vector), found.milliseconds, found.interval)

    return LatencyValidation(
        tuple(comparison(vector, found) for vector, found in zip(vectors, measured, strict=True)),
        comparison(graph.width_vector(), dense),
        repeats,
    )


def _fitted(latency: Latency, result: LatencyValidation) -> Latency:
    """Returns the cost calibrated to what was measured, with the 90th percentile of the errors that remain."""
    points = [result.dense, *result.comparisons]
    predicted = np.array([point.predicted for point in points])
    measured = np.array([point.measured for point in points])
    # The constant is dispatch, a small share of the dense model: that is known before, and keeps the fit steady.
    rows = np.stack([predicted, np.ones(len(points))], axis=1) / measured[:, None] / _NOISE
    prior = [0.0, 1 / (_CONSTANT_SHARE * result.dense.measured)]
    fitted = np.linalg.lstsq(np.vstack([rows, prior]), np.append(np.ones(len(points)) / _NOISE, 0), rcond=None)[0]
    errors = np.abs(rows @ fitted * _NOISE - 1)
    return latency.with_calibration(float(fitted[0]), float(fitted[1]), float(np.quantile(errors, 0.9)))


def uniform_decisions(
    graph: Graph, fractions: Sequence[float] = (0.85, 0.7, 0.55, 0.4, 0.3, 0.2), step: int = 8
) -> list[NDArray[np.int64]]:
    """Returns width vectors that keep the same fraction of every group, rounded to a multiple of `step`."""
    sizes = graph.width_vector()
    rounded = [np.round(sizes * fraction / step).astype(np.int64) * step for fraction in fractions]
    return [np.minimum(sizes, np.maximum(np.minimum(step, sizes), widths)) for widths in rounded]


def measure_decisions(
    latency: Latency, graph: Graph, vectors: Sequence[NDArray[np.int64]], *, repeats: int = 30
) -> tuple[list[ModelTime], ModelTime]:
    """Measures the model at several width vectors and, in the same rounds, the dense model.

    Returns:
        the time of each vector, and that of the dense model.
    """
    engine = runtime_named(latency.runtime, threads=latency.threads)
    nominal = latency.nominal()
    series: list[dict[str, ModelTime]] = []
    with tempfile.TemporaryDirectory() as folder:
        build = _builder(latency, graph, Path(folder))
        runs = {_DENSE: _run(engine, build(None, _DENSE), graph)}
        for position, vector in enumerate(track(vectors, "Measuring whole models")):
            runs[str(position)] = _run(engine, build(vector, str(position)), graph)
            if len(runs) > _AT_ONCE or position + 1 == len(vectors):
                series.append(time_models(runs, latency.runtime, latency.threads, nominal=nominal, repeats=repeats))
                runs = {_DENSE: runs[_DENSE]}
    dense = ModelTime.of([sample for times in series for sample in times[_DENSE].samples])
    found: dict[str, ModelTime] = {}
    for times in series:
        drift = dense.milliseconds / times[_DENSE].milliseconds
        for name, time in times.items():
            found[name] = ModelTime.of([drift * sample for sample in time.samples])
    return [found[str(position)] for position in range(len(vectors))], dense


def _run(engine: Runtime, model: nn.Module | Path, graph: Graph) -> Callable[[], object]:
    session = engine.load(model, graph.inputs)
    return lambda: session.run(graph.inputs)


def _builder(
    latency: Latency, graph: Graph, folder: Path
) -> Callable[[NDArray[np.int64] | None, str], nn.Module | Path]:
    """Returns a function that builds the model of a width vector: a file for ONNX Runtime, else a module."""
    if latency.runtime != "onnxruntime":
        return lambda vector, name: graph.model if vector is None else _module(graph, vector)
    dense = export_onnx(graph.model, graph.inputs, folder / f"{_DENSE}.onnx", dynamic=False).path

    def build(vector: NDArray[np.int64] | None, name: str) -> Path:
        return dense if vector is None else narrow_onnx(graph, dense, vector, folder / f"{name}.onnx")

    return build


def _module(graph: Graph, vector: NDArray[np.int64]) -> nn.Module:
    masks = [np.arange(group.size) < width for group, width in zip(graph.channel_groups(), vector, strict=True)]
    return Rewrite(graph, masks).module()


def _vector(graph: Graph, decision: Decision) -> NDArray[np.int64]:
    vector = vector_of(graph, decision)
    return graph.width_vector() if vector is None else vector
