"""Encoders by the share of NAS-Bench-201 they learn from: perceptron, LSTM, graph convolution, GATES; hinge loss.

By default the predictors of 1, 5 and 10 % are trained anew with three seeds and the stored ones of 50 and 100 % (their
weights in 8 bits) are measured again; `full` trains all of them. Random forests stand beside them, because a cheap
baseline must: on genes, on graph features, and on those with zero-cost scores, which no encoder sees. Published: Zhao
et al., DELE, AAAI 2023, table 2 (GATES and LSTM).
"""

from __future__ import annotations

import time

import numpy as np
from scipy.stats import kendalltau
from tools.benchmarks.training.nasbench201_predictors import (
    LABEL,
    SEEDS,
    SHARES,
    first_rows,
    halves,
    means,
    study,
    table_file,
)

from within.core.bench import BenchResult
from within.nas.baselines import learn_forest
from within.nas.features import joined, looked_up, nasbench201_graph
from within.nas.tables.nasbench201_table import read
from within.nas.tables.table import FAILED

ENCODERS = ("MLP", "LSTM", "GCN", "GATES")
PUBLISHED = {"LSTM": (0.5692, 0.6410, 0.7258, 0.8765, 0.9000), "GATES": (0.7332, 0.8582, 0.8865, 0.9180, 0.9249)}
NEAR = {"LSTM": 0.03, "GATES": 0.02}


def run(full: bool = False) -> BenchResult:
    """See the module."""
    started = time.perf_counter()
    found = study(ENCODERS, ("hinge",), full=full)
    taus = {name: means(found, encoder=name) for name in ENCODERS}
    missed = []
    for name, published in PUBLISHED.items():
        for share, one, other in zip(SHARES, taus[name], published, strict=True):
            if abs(one - other) > NEAR[name]:
                missed.append(f"{name} at {share:.0%}")
    for share, mlp, lstm, gcn, gates in zip(SHARES, *taus.values(), strict=True):
        if not (mlp < lstm < gates and gcn < gates):
            missed.append(f"order at {share:.0%}")
    rows = []
    for name in ENCODERS:
        cells = []
        for share in SHARES:
            chosen = [each["tau"] for each in found if each["encoder"] == name and each["share"] == share]
            cells.append(f"{np.mean(chosen):.4f} ({np.std(chosen, ddof=1):.4f})")
        rows.append((name, *cells))
        if name in PUBLISHED:
            rows.append(("  published", *(f"{value:.4f}" for value in PUBLISHED[name])))
    forests = baselines()
    rows += [(name, *(f"{value:.4f}" for value in values)) for name, values in forests.items()]
    figures = {
        "baselines_tau": {name: [round(value, 4) for value in values] for name, values in forests.items()},
        "tau": {name: [round(value, 4) for value in values] for name, values in taus.items()},
        "shares": SHARES,
        "seeds": len(SEEDS),
        "trained_cpu_seconds": {
            name: round(float(np.nansum([each["seconds"] for each in found if each["encoder"] == name])))
            for name in ENCODERS
        },
        "missed": missed,
        "seconds": round(time.perf_counter() - started),
    }
    return BenchResult("gates-tau", not missed, figures, ("encoder", *(f"{share:.0%}" for share in SHARES)), rows)


def baselines() -> dict[str, list[float]]:
    """Returns Kendall's tau of random forests, for each share."""
    train, test = halves()
    zero_cost = looked_up(read(table_file()), [name for name in train.columns if name.startswith("zc_")])
    kinds = {
        "forest, genes": None,
        "forest, graph": nasbench201_graph,
        "forest, graph and zero-cost": joined(
            nasbench201_graph, lambda cells: np.where((found := zero_cost(cells)) < FAILED, np.nan, found)
        ),
    }
    truth = test.labels(LABEL)
    found = {}
    for name, features in kinds.items():
        found[name] = []
        for share in SHARES:
            known = first_rows(train, share)
            score = learn_forest(known.architectures, known.labels(LABEL), features=features)
            found[name].append(float(kendalltau(score(test.architectures), truth).statistic))
    return found
