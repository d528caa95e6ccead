"""Latency: predicted from measured kernels against measured whole models, and budgets on it met as measured.

ResNet-18 at 224x224 and the project's denoising U-Net at 256x256, ONNX Runtime, one thread. Kernels are timed anew into
an empty table and the cost is calibrated on seven models; then 30 random width vectors are predicted and measured, half
of them in multiples of 8 as the pruner chooses them, half of any width. Budgets are searched by `prune` and corrected
by `meet_latency`. The ratios that count are measured again at the end, dense and pruned in turns, in three series apart
from each other in time: what neighbours do to the memory of the machine moves a ratio by a few per cent for a while.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tools.benchmarks.networks.resnet18 import ResNet18
from torch import nn

from within.core.bench import BenchResult
from within.core.cost import Budget, Latency, Macs
from within.core.device.measure import measure
from within.core.graph import Graph, trace
from within.core.pruning import prune
from within.core.pruning.measured_latency import MeasuredPruning, deployed, meet_latency
from within.lowlevel.models import build

VECTORS = 30
MEDIAN_ERROR, PERCENTILE_90 = 0.05, 0.10
BUDGETS = (0.80, 0.55, 0.30)
LEAST_USE = 0.93  # of a budget
ROUNDS, SERIES, VALIDATION_ROUNDS = 41, 3, 20
SEED = 0


@dataclass(frozen=True)
class Subject:
    """A network, its image size, and the step of its widths.

    The U-Net's 16 channels at full size are one block of ONNX Runtime's; below that only narrower inputs save time,
    which it reads in fours.
    """

    name: str
    model: nn.Module
    size: int
    step: int


@dataclass(frozen=True, eq=False)
class Deployment:
    """A dense and a pruned model on the runtime, and the share of the dense latency that the pruned one may take."""

    network: str
    share: float
    runs: Mapping[str, Callable[[], object]]


def run(full: bool = False) -> BenchResult:
    """Runs the bench; `full` takes four times as many vectors and rounds."""
    torch.manual_seed(SEED)
    subjects = (
        Subject("resnet18", ResNet18().eval(), 224, 8),
        Subject("unet_denoise", build("unet_denoise").eval(), 256, 4),
    )
    figures: dict[str, Any] = {}
    deployments: list[Deployment] = []
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects:
            graph = trace(subject.model, (torch.rand(1, 3, subject.size, subject.size),))
            latency = Latency(table=Path(folder) / "latency.sqlite")
            latency, found = _prediction(latency, graph, 4 if full else 1)
            budgets = {share: _pruned(latency, graph, share, subject.step) for share in BUDGETS}
            dense = deployed(graph.model, graph, latency)
            deployments += [
                Deployment(subject.name, share, {"dense": dense, "pruned": deployed(met.result.model, graph, latency)})
                for share, met in budgets.items()
            ]
            attempts = {f"{share:.0%}": _attempts(met) for share, met in budgets.items()}
            figures[subject.name] = found | {"budgets": attempts, "kernels": len(latency.table)}
    for deployment, measured in zip(deployments, _measured(deployments, 4 if full else 1), strict=True):
        figures[deployment.network]["budgets"][f"{deployment.share:.0%}"] |= measured
    for subject in subjects:
        rows += _rows(subject.name, figures[subject.name])
    passed = all(
        found["met"] and all(budget["met"] for budget in found["budgets"].values()) for found in figures.values()
    )
    figures["thresholds"] = {
        "median_error": MEDIAN_ERROR,
        "percentile_90": PERCENTILE_90,
        "measured_over_target": [LEAST_USE, 1.0],
    }
    columns = ("network", "what", "measured", "95 % interval", "must be", "ok")
    return BenchResult("latency", passed, figures, columns, rows)


def random_widths(graph: Graph, count: int, step: int, random: np.random.Generator) -> list[NDArray[np.int64]]:
    """Returns width vectors that keep between a quarter and all of each group, in multiples of `step`."""
    sizes = graph.width_vector()
    shares = random.uniform(0.25, 1, (count, len(sizes)))
    widths = np.round(sizes * shares / step).astype(np.int64) * step
    return list(np.clip(widths, np.minimum(step, sizes), sizes))


def _prediction(latency: Latency, graph: Graph, times: int) -> tuple[Latency, dict[str, Any]]:
    random = np.random.default_rng(SEED)
    half = times * VECTORS // 2
    vectors = random_widths(graph, half, 8, random) + random_widths(graph, half, 1, random)
    calibrated, found = latency.calibrated_and_validated(graph, vectors, repeats=VALIDATION_ROUNDS * times)
    plain = np.array([latency(graph, vector) for vector in vectors])
    errors = np.array([comparison.error for comparison in found.comparisons])
    measured = np.array([comparison.measured for comparison in found.comparisons])
    macs = np.array([Macs()(graph, vector) for vector in vectors]) / Macs()(graph) * found.dense.measured
    return calibrated, {
        "median_error": round(found.median_error, 4),
        "percentile_90": round(found.percentile_90, 4),
        "bias": round(found.bias, 4),
        "median_error_multiples_of_8": round(float(np.median(np.abs(errors[:half]))), 4),
        "median_error_any_width": round(float(np.median(np.abs(errors[half:]))), 4),
        "median_error_without_calibration": round(float(np.median(np.abs(plain / measured - 1))), 4),
        "median_error_of_macs": round(float(np.median(np.abs(macs / measured - 1))), 4),
        "scale": round(calibrated.scale, 4),
        "constant_over_dense": round(calibrated.constant / found.dense.measured, 4),
        "vectors": len(vectors),
        "met": found.median_error <= MEDIAN_ERROR and found.percentile_90 <= PERCENTILE_90,
    }


def _pruned(latency: Latency, graph: Graph, share: float, step: int) -> MeasuredPruning:
    return meet_latency(
        lambda budget: prune(graph.model, graph.inputs, budgets=[budget], step=step),
        Budget(latency, fraction=share),
        graph,
    )


def _attempts(met: MeasuredPruning) -> dict[str, Any]:
    return {
        "predicted_over_dense": [round(attempt.predicted, 4) for attempt in met.attempts],
        "measured_over_dense": [round(attempt.measured, 4) for attempt in met.attempts],
    }


def _measured(deployments: Sequence[Deployment], times: int) -> list[dict[str, Any]]:
    ratios: list[list[NDArray[np.float64]]] = [[] for _ in deployments]
    for series in range(SERIES):
        for found, item in zip(ratios, deployments, strict=True):
            timings = measure(item.runs, (), repeats=ROUNDS * times, seed=SEED + series)
            pruned, dense = (np.array(timings[name].samples) for name in ("pruned", "dense"))
            found.append(pruned / dense / item.share)
    return [_use(np.concatenate(found)) for found in ratios]


def _use(ratios: NDArray[np.float64]) -> dict[str, Any]:
    use = float(np.median(ratios))
    picks = np.random.default_rng(SEED).integers(0, len(ratios), (2000, len(ratios)))
    interval = np.quantile(np.median(ratios[picks], axis=1), [0.025, 0.975])
    return {
        "measured_over_target": round(use, 4),
        "interval": [round(float(bound), 4) for bound in interval],
        "rounds": len(ratios),
        "met": LEAST_USE <= use <= 1.0,
    }


def _rows(name: str, found: dict[str, Any]) -> list[list[Any]]:
    rows: list[list[Any]] = [
        [name, "median error", found["median_error"], "", f"<= {MEDIAN_ERROR}", found["median_error"] <= MEDIAN_ERROR],
        [
            name,
            "90th percentile",
            found["percentile_90"],
            "",
            f"<= {PERCENTILE_90}",
            found["percentile_90"] <= PERCENTILE_90,
        ],
        [name, "median error of MACs", found["median_error_of_macs"], "", "", True],
    ]
    for share, budget in found["budgets"].items():
        low, high = budget["interval"]
        rows.append(
            [
                name,
                f"measured over target, {share} of dense",
                budget["measured_over_target"],
                f"{low:.3f} - {high:.3f}",
                f"{LEAST_USE} - 1",
                budget["met"],
            ]
        )
    return rows
