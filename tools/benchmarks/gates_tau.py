"""Encoders by the share of NAS-Bench-201 they learn from: perceptron, LSTM, graph convolution, GATES; hinge loss.

By default the predictors of 1, 5 and 10 % are trained anew with three seeds and the stored ones of 50 and 100 % (their
weights in 8 bits) are measured again; `full` trains all of them. A random forest and boosting on graph features stand
beside them, because a cheap baseline must. Published: Zhao et al., DELE, AAAI 2023, table 2 (GATES and LSTM).
"""

from __future__ import annotations

import time

import numpy as np
from tools.benchmarks.training.nasbench201_predictors import ENCODERS, SEEDS, SHARES, means, study

from within.core.bench import BenchResult

PUBLISHED = {"LSTM": (0.5692, 0.6410, 0.7258, 0.8765, 0.9000), "GATES": (0.7332, 0.8582, 0.8865, 0.9180, 0.9249)}
NEAR = {"LSTM": 0.03, "GATES": 0.02}


def run(full: bool = False) -> BenchResult:
    """See the module."""
    started = time.perf_counter()
    found = study(tuple(ENCODERS), ("hinge",), full=full)
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
    figures = {
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
