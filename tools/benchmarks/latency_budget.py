"""The best network of NAS-Bench-201 under a latency limit of a real device, in at most 200 queries.

A query measures accuracy and latency of one architecture. Latency is foretold, by a linear model of the genes, from
what was measured so far; nothing of the latency table is known in advance. Six devices, a phone to a GPU, whose limits
are quantiles of their latencies; the optimum is the best of all architectures at hand within the limit. `full` runs 20
seeds instead of 5.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from tools.benchmarks.search_efficiency import GATES, PRIOR
from tools.benchmarks.training.nasbench201_predictors import LABEL, table_file

from within.core import parallel
from within.core.bench import BenchResult
from within.core.errors import WithinError
from within.nas.learner import learner
from within.nas.search import predictor_based
from within.nas.search.evaluation import from_table
from within.nas.search.history import History
from within.nas.search.limits import Limit, Limits, best_within
from within.nas.search.prior import mean_rank
from within.nas.tables.measured_space import measured_space
from within.nas.tables.nasbench201_table import read
from within.nas.tables.table import Table

DEVICES = {  # column, quantile of the limit
    "Pixel 2": ("lat_pixel2", 0.2),
    "Samsung A50": ("lat_samsung_a50", 0.4),
    "Raspberry Pi 4": ("hw_raspi4_latency", 0.3),
    "Xeon Gold 6226": ("lat_gold_6226", 0.1),
    "Titan RTX, batch 256": ("lat_titan_rtx_256", 0.5),
    "Edge GPU": ("hw_edgegpu_latency", 0.25),
}
QUERIES, NEAR, SEEDS = 200, 0.01, 5
MOST_SECONDS = 1.0


def run(full: bool = False) -> BenchResult:
    """See the module."""
    started = time.perf_counter()
    seeds = range(4 * SEEDS if full else SEEDS)
    jobs = [{"device": device, "seed": seed} for device in DEVICES for seed in seeds]
    found = parallel.map(best, jobs, workers=2, description="Searching")
    rows, figures, missed = [], {}, []
    for device, (column, quantile) in DEVICES.items():
        limit = _limit(column, quantile)
        optimum = float(_table().labels(LABEL)[_table().column(column) <= limit].max())
        ours = [each for job, each in zip(jobs, found, strict=True) if job["device"] == device]
        lost = [1 - each["accuracy"] / optimum for each in ours]
        violated = sum(each["latency"] > limit for each in ours)
        near = [each["near"] for each in ours]
        if max(lost) > NEAR:
            missed.append(f"{device}: {max(lost):.2%} below the optimum")
        if violated:
            missed.append(f"{device}: {violated} limits violated")
        figures[device] = {
            "limit_ms": round(limit, 3), "optimum": round(optimum, 3), "worst": round(optimum * (1 - max(lost)), 3),
            "lost": round(max(lost), 5), "median_queries_to_1_%": float(np.median(near)), "violated": violated,
            "queries_above_the_limit": float(np.mean([each["above"] for each in ours])),
        }  # fmt: skip
        rows.append(
            (device, f"{limit:.2f} ms ({quantile:.0%})", f"{optimum:.2f}", f"{optimum * (1 - max(lost)):.2f}",
             f"{max(lost):.2%}", f"{np.median(near):g}", violated, f"{figures[device]['queries_above_the_limit']:.0f}")
        )  # fmt: skip
    seconds = _infeasible_seconds()
    if seconds > MOST_SECONDS:
        missed.append(f"an infeasible limit took {seconds:.2f} s to be refused")
    columns = (
        "device", "limit", "optimum", "worst of the seeds", "lost", "queries to 1 %", "violated", "queries above it",
    )  # fmt: skip
    totals = {
        "devices": figures, "seeds": len(seeds), "queries": QUERIES, "refused_in_seconds": round(seconds, 4),
        "missed": missed, "seconds": round(time.perf_counter() - started),
    }  # fmt: skip
    return BenchResult("latency-budget", not missed, totals, columns, rows)


def best(job: Mapping[str, Any]) -> dict[str, float]:
    """Returns accuracy and latency of the best architecture found, and queries until it was within 1 %."""
    torch.set_num_threads(1)
    table = _table()
    column, quantile = DEVICES[job["device"]]
    limit = _limit(column, quantile)
    space = measured_space(table)
    limits = Limits(space, [Limit(column, limit)])
    history = History(from_table(table, [LABEL, column]), QUERIES)
    learn = learner(GATES, table, "nasbench201", seed=job["seed"])
    predictor_based.search(
        space, history, learn, objective=LABEL, start=20, each=20, prior=mean_rank(table, PRIOR), limits=limits,
        seed=job["seed"],
    )  # fmt: skip
    found = best_within(history, LABEL, limits)
    if found is None:
        return {"accuracy": 0.0, "latency": 0.0, "near": QUERIES + 1, "above": QUERIES}
    fine = history.values(column) <= limit
    optimum = float(table.labels(LABEL)[table.column(column) <= limit].max())
    near = np.flatnonzero(fine & (history.values(LABEL) >= (1 - NEAR) * optimum))
    return {
        "accuracy": found[1][LABEL], "latency": found[1][column], "above": int((~fine).sum()),
        "near": int(near[0]) + 1 if len(near) else QUERIES + 1,
    }  # fmt: skip


def _infeasible_seconds() -> float:
    """Returns how long it takes to refuse a limit that no architecture meets."""
    table = _table()
    column = DEVICES["Pixel 2"][0]
    row = {architecture: number for number, architecture in enumerate(table.architectures)}
    values = table.column(column)
    started = time.perf_counter()
    try:
        Limits(measured_space(table), [Limit(column, 0.1, lambda cells: values[[row[each] for each in cells]])])
    except WithinError:
        return time.perf_counter() - started
    return float("inf")


def _limit(column: str, quantile: float) -> float:
    return float(np.quantile(_table().column(column), quantile))


@functools.cache
def _table() -> Table:
    return read(table_file())
