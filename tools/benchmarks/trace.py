"""How long the analysis of a network takes: trace, channel groups and every cost, in thread CPU time.

ResNet-50 and the forty families of `coverage`, each at its default input size. The first trace of a process also warms
torch up, so one network is traced before anything is timed; ResNet-50 is the median of several, the families are timed
once each.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from tools.benchmarks.networks.families import TIMM, build_network, inputs_for
from torch import nn

from within.core import Macs, ModelBytes, Params, PeakMemory, trace
from within.core.bench import BenchResult
from within.core.cost.macs import CONVENTIONS
from within.core.progress import track

RESNET50_SECONDS = 1.0
FAMILIES_SECONDS = 60.0
REPEATS = 7


@dataclass(frozen=True)
class Seconds:
    """CPU seconds of the three steps."""

    trace: float
    groups: float
    costs: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.trace + self.groups + self.costs


def run(full: bool = False) -> BenchResult:
    """Runs the bench; `full` times each family three times and takes the median."""
    model = build_network("resnet50").eval()
    inputs = inputs_for("resnet50", model)
    measure(model, inputs)
    resnet50 = [measure(model, inputs)[0] for _ in range(REPEATS)]
    totals = sorted(seconds.total for seconds in resnet50)
    median = statistics.median(totals)
    rows: list[list[Any]] = []
    families = 0.0
    for name in track(TIMM, "Tracing"):
        model = build_network(name).eval()
        inputs = inputs_for(name, model)
        timed = [measure(model, inputs) for _ in range(3 if full else 1)]
        seconds, operators, groups = sorted(timed, key=lambda entry: entry[0].total)[len(timed) // 2]
        families += seconds.total
        rows.append([name, operators, groups, seconds.trace, seconds.groups, seconds.costs, seconds.total])
    figures = {
        "resnet50_cpu_seconds": round(median, 3),
        "resnet50_spread": [round(totals[0], 3), round(totals[-1], 3)],
        "resnet50_without_export": round(statistics.median(entry.groups + entry.costs for entry in resnet50), 3),
        "families_cpu_seconds": round(families, 1),
        "families_without_export": round(sum(row[4] + row[5] for row in rows), 2),
        "slowest": max(rows, key=lambda row: row[-1])[0],
        "thresholds": {"resnet50_cpu_seconds": RESNET50_SECONDS, "families_cpu_seconds": FAMILIES_SECONDS},
    }
    columns = ("network", "operators", "groups", "trace s", "groups s", "costs s", "total CPU-s")
    passed = median <= RESNET50_SECONDS and families <= FAMILIES_SECONDS
    return BenchResult("trace", passed, figures, columns, rows)


def measure(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[Seconds, int, int]:
    """Traces a model anew; returns the times and how many operators and groups were found."""
    start = time.thread_time()
    graph = trace(model, inputs)
    traced = time.thread_time()
    groups = graph.channel_groups()
    grouped = time.thread_time()
    for convention in CONVENTIONS:
        Macs(convention)(graph)
    Params()(graph), ModelBytes()(graph), PeakMemory()(graph)
    counted = time.thread_time()
    return Seconds(traced - start, grouped - traced, counted - grouped), len(graph.operators), len(groups)
