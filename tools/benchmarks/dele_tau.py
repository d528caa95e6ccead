"""DELE against plain predictors by the share of NAS-Bench-201 they learn from.

By default the experts of one seed, stored in 8 bits, learn from 1, 5 and 10 % of the true labels, beside plain
predictors with the same seed; `full` trains experts of two seeds and learns from all shares. At 1 % two forms more:
learned weights that do not see the architecture, and no expert of the 12-epoch accuracy. Published: Zhao et al., AAAI
2023.
"""

from __future__ import annotations

import time

import numpy as np
from tools.benchmarks.training.nasbench201_ensembles import STORED_SEED
from tools.benchmarks.training.nasbench201_ensembles import study as ensembles
from tools.benchmarks.training.nasbench201_predictors import SEEDS, SHARES, study

from within.core.bench import BenchResult

PUBLISHED = {
    "GATES": (0.7332, 0.8582, 0.8865, 0.9180, 0.9249),
    "LSTM": (0.5692, 0.6410, 0.7258, 0.8765, 0.9000),
    "DELE, GATES": (0.8244, 0.8948, 0.9075, 0.9216, 0.9250),
    "DELE, LSTM": (0.7835, 0.8538, 0.8683, 0.8992, 0.9084),
}
FULL_SEEDS = 2
LEAST_GAIN = {"GATES": 0.05, "LSTM": 0.15}  # at the least share; elsewhere nothing may be lost


def run(full: bool = False) -> BenchResult:
    """See the module."""
    started = time.perf_counter()
    seeds = SEEDS[:FULL_SEEDS] if full else (STORED_SEED,)
    shares = SHARES if full else SHARES[:3]
    plain = study(("GATES", "LSTM"), ("hinge",), seeds, full=full)
    dele, seconds = ensembles(seeds, full=full)
    taus = {(each["encoder"], each["share"], each["seed"]): each["tau"] for each in plain}
    names = {"all": "DELE, {}", "shares": "DELE, {}, one weight for all", "zero cost": "DELE, {}, zero-cost labels"}
    table: dict[str, dict[float, list[float]]] = {}
    for (encoder, share, _), value in taus.items():
        table.setdefault(encoder, {}).setdefault(share, []).append(value)
    for each in dele:
        name = names[each["form"]].format(each["encoder"])
        table.setdefault(name, {}).setdefault(each["share"], []).append(each["tau"])
    missed = []
    for encoder, gain in LEAST_GAIN.items():
        for share in shares:
            found = float(np.mean(table[f"DELE, {encoder}"][share]) - np.mean(table[encoder][share]))
            if found < (gain if share == SHARES[0] else 0):
                missed.append(f"{encoder} at {share:.0%}: {found:+.4f}")
    rows = []
    for name, values in table.items():
        rows.append((name, *(_cell(values.get(share)) for share in shares)))
        if name in PUBLISHED:
            rows.append(("  published", *(f"{value:.4f}" for value in PUBLISHED[name][: len(shares)])))
    figures = {
        "tau": {name: [_mean(values.get(share)) for share in shares] for name, values in table.items()},
        "shares": shares,
        "seeds": len(seeds),
        "cpu_seconds": {
            "experts": round(float(np.sum(seconds))),
            "second step": round(float(np.sum([each["seconds"] for each in dele]))),
        },
        "missed": missed,
        "seconds": round(time.perf_counter() - started),
    }
    return BenchResult("dele-tau", not missed, figures, ("predictor", *(f"{share:.0%}" for share in shares)), rows)


def _mean(values: list[float] | None) -> float | None:
    return None if values is None else round(float(np.mean(values)), 4)


def _cell(values: list[float] | None) -> str:
    if values is None:
        return ""
    spread = f" ({np.std(values, ddof=1):.4f})" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"
