"""Queries until one of the best 0.1 % of NAS-Bench-201 is evaluated, over 50 seeds: random, evolution, predictors.

A query is a look-up of the 200-epoch test accuracy. The best 0.1 % are 12 of the 12,500 architectures at hand. The
prior of some predictors is the mean rank of the seven cheap labels whose published rank correlation is above 0.7: they
come from an untrained network or a closed form, and choose the same eight architectures for every seed to begin with;
seeds differ in the predictor. The 12-epoch accuracy, which costs training, is used by none. Predictors score the whole
space; both settings of evolution are compared with, the second being the better of those tried here. `full`
does the same for CIFAR-100 and ImageNet16-120, for which nothing was chosen.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from tools.benchmarks.training.nasbench201_predictors import table_file

from within.core import parallel
from within.core.bench import BenchResult
from within.nas.learner import LearnerSettings, learner
from within.nas.search import annealing, predictor_based, random_search, regularised_evolution
from within.nas.search.evaluation import from_table
from within.nas.search.history import History
from within.nas.search.prior import mean_rank
from within.nas.tables.measured_space import measured_space
from within.nas.tables.nasbench201_table import read
from within.nas.tables.table import Table

LABELS = {"CIFAR-10": "cifar10_test_acc_200ep", "CIFAR-100": "cifar100_test_acc_200ep",
          "ImageNet16-120": "imagenet16_test_acc_200ep"}  # fmt: skip
PRIOR = ("zc_nwot", "zc_jacov", "zc_synflow", "zc_epe_nas", "zc_l2_norm", "params", "macs")
GATES = LearnerSettings(encoder="gates", widths=(100,), epochs=60, batch_size=128)
RIDGE = LearnerSettings(baseline="ridge")
METHODS: Mapping[str, Mapping[str, Any]] = {
    "random": {"search": random_search.search},
    "evolution, 100 and 25 drawn": {"search": regularised_evolution.search, "population": 100, "drawn": 25},
    "evolution, 20 and 5 drawn": {"search": regularised_evolution.search, "population": 20, "drawn": 5},
    "annealing": {"search": annealing.search},
    "ridge on genes": {"learner": RIDGE, "start": 10, "each": 2, "inner": "all"},
    "GATES": {"learner": GATES, "start": 10, "each": 2, "inner": "all"},
    "ridge on genes, prior": {"learner": RIDGE, "start": 8, "each": 2, "prior": PRIOR, "inner": "all"},
    "GATES, prior": {"learner": GATES, "start": 8, "each": 2, "prior": PRIOR, "inner": "all"},
}
JUDGED, EVOLUTION = "GATES, prior", ("evolution, 100 and 25 drawn", "evolution, 20 and 5 drawn")
SEEDS, BEST = 50, 0.001
MOST = {"learner": 300, "search": 12_500}
LEAST_OF_RANDOM, LEAST_OF_EVOLUTION = 20, 5


class Until(History):
    """A history that asks no more once an objective has been reached."""

    goal = np.inf
    name = ""

    @property
    def left(self) -> int:
        """Queries that are left."""
        recent = self.objectives[-random_search.AT_ONCE :]
        return 0 if any(each[self.name] >= self.goal for each in recent) else super().left


def run(full: bool = False) -> BenchResult:
    """See the module."""
    started = time.perf_counter()
    data_sets = list(LABELS) if full else ["CIFAR-10"]
    jobs = [
        {"data": data, "method": method, "seed": seed}
        for data in data_sets
        for method in reversed(METHODS)
        for seed in range(SEEDS)
    ]
    found = parallel.map(queries, jobs, workers=2, description="Searching")
    taken = {(data, method): [] for data in data_sets for method in METHODS}
    for job, count in zip(jobs, found, strict=True):
        taken[job["data"], job["method"]].append(count)
    medians = {key: float(np.median(counts)) for key, counts in taken.items()}
    missed = []
    gains = {}
    for data in data_sets:
        judged = medians[data, JUDGED]
        by_chance = expected_median(*_sizes())
        over_random = min(by_chance, medians[data, "random"]) / judged
        over_evolution = min(medians[data, each] for each in EVOLUTION) / judged
        gains[data] = {"random": round(over_random, 1), "evolution": round(over_evolution, 1)}
        if over_random < LEAST_OF_RANDOM:
            missed.append(f"{data}: {over_random:.1f} times fewer than random search")
        if over_evolution < LEAST_OF_EVOLUTION:
            missed.append(f"{data}: {over_evolution:.1f} times fewer than evolution")
    rows = []
    for (data, method), counts in taken.items():
        low, high = np.quantile(counts, (0.25, 0.75))
        rows.append((data, method, f"{np.median(counts):g}", f"{low:g} to {high:g}", max(counts)))
    figures = {
        "median_queries": {data: {method: medians[data, method] for method in METHODS} for data in data_sets},
        "random_expected": round(expected_median(*_sizes())),
        "times_fewer": gains,
        "seeds": SEEDS,
        "missed": missed,
        "seconds": round(time.perf_counter() - started),
    }
    columns = ("data", "method", "median queries", "middle half", "most")
    return BenchResult("search-efficiency", not missed, figures, columns, rows)


def queries(job: Mapping[str, Any]) -> int:
    """Returns the queries until one of the best is found."""
    torch.set_num_threads(1)
    label, seed = LABELS[job["data"]], job["seed"]
    table = _table()
    space = measured_space(table)
    values = table.labels(label)
    options = dict(METHODS[job["method"]])
    history = Until(from_table(table, [label]), MOST["learner" if "learner" in options else "search"])
    history.name, history.goal = label, float(np.sort(values)[-_sizes()[1]])
    if "learner" in options:
        learn = learner(options.pop("learner"), table, "nasbench201", seed=seed)
        prior = options.pop("prior", None)
        chosen = None if prior is None else mean_rank(table, prior)
        predictor_based.search(space, history, learn, objective=label, prior=chosen, seed=seed, **options)
    else:
        search = options.pop("search")
        named = {} if search is random_search.search else {"objective": label}
        search(space, history, seed=seed, **named, **options)
    reached = np.flatnonzero(history.values(label) >= history.goal)
    return int(reached[0]) + 1 if len(reached) else history.queries + 1


def expected_median(architectures: int, good: int) -> float:
    """Returns the exact median of queries of a search that draws without replacement."""
    missing, queries = 1.0, 0
    while missing > 0.5:
        missing *= (architectures - good - queries) / (architectures - queries)
        queries += 1
    return float(queries)


@functools.cache
def _table() -> Table:
    return read(table_file())


def _sizes() -> tuple[int, int]:
    count = len(_table())
    return count, int(BEST * count)
