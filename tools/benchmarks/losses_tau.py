"""Losses for GATES by the share of NAS-Bench-201 it learns from: regression, and four that learn an order.

The perceptron after the encoder has one layer of 200, as published for this comparison. By default the predictors of 1,
5 and 10 % are trained anew with three seeds and the stored ones of 50 and 100 % (their weights in 8 bits) are measured
again; `full` trains all of them. Published, on NAS-Bench-101 whose table is not at hand: Ning et al., GATES, ECCV 2020:
the losses that rank are above regression at every size.
"""

from __future__ import annotations

import time

import numpy as np
from tools.benchmarks.training.nasbench201_predictors import SEEDS, SHARES, means, study

from within.core.bench import BenchResult

ENCODER = "GATES-200"
REGRESSION, RANKING = "mse", ("hinge", "bce", "comparator", "listmle")


def run(full: bool = False) -> BenchResult:
    """See the module."""
    started = time.perf_counter()
    found = study((ENCODER,), (REGRESSION, *RANKING), full=full)
    taus = {loss: means(found, loss=loss) for loss in (REGRESSION, *RANKING)}
    missed = [
        f"{loss} at {share:.0%}: {taus[loss][number]:.4f}, {REGRESSION} {taus[REGRESSION][number]:.4f}"
        for number, share in enumerate(SHARES)
        for loss in RANKING
        if taus[loss][number] <= taus[REGRESSION][number]
    ]
    rows = []
    for loss in taus:
        values = [
            [each["tau"] for each in found if each["loss"] == loss and each["share"] == share] for share in SHARES
        ]
        rows.append((loss, *(f"{np.mean(each):.4f} ({np.std(each, ddof=1):.4f})" for each in values)))
    figures = {
        "tau": {loss: [round(value, 4) for value in values] for loss, values in taus.items()},
        "shares": SHARES,
        "seeds": len(SEEDS),
        "missed": missed,
        "seconds": round(time.perf_counter() - started),
    }
    return BenchResult("losses-tau", not missed, figures, ("loss", *(f"{share:.0%}" for share in SHARES)), rows)
