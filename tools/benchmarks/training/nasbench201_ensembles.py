"""DELE on NAS-Bench-201: experts trained once a seed on cheap labels, then few true labels for experts and gate.

Twelve experts, as published; the one-shot accuracy, which is not public, is replaced by the test accuracy after 12
epochs (tau 0.70, stronger), and relu and relu_logdet by nwot and the number of parameters. Scores of -1e8 in the table
stand for a failure and count as missing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tools.benchmarks.networks.packed_weights import filled, store
from tools.benchmarks.training.nasbench201_predictors import (
    BITS,
    ENCODERS,
    LABEL,
    RUNS,
    SHARES,
    WIDTHS,
    first_rows,
    halves,
    tau,
)

from within.core import parallel
from within.core.bench import benchmark_folder
from within.nas.dele import DynamicEnsemble, train_ensemble, train_experts
from within.nas.tables.table import FAILED

LABELS = (
    "cifar10_test_acc_12ep", "zc_grad_norm", "zc_snip", "zc_grasp", "macs", "zc_fisher", "zc_jacov", "zc_plain",
    "zc_synflow", "zc_nwot", "params", "lat_gold_6226",
)  # fmt: skip
STORED_SEED = 0
FOLDER = benchmark_folder() / "artefacts" / "nasbench201"


def new_ensemble(encoder: str, seed: int, *, experts: int = len(LABELS), dynamic: bool = True) -> DynamicEnsemble:
    """Returns an ensemble before training."""
    torch.manual_seed(1_000 + seed)
    return DynamicEnsemble(experts, ENCODERS[encoder], WIDTHS[encoder], dynamic=dynamic)


def first_step(each: Mapping[str, Any]) -> float:
    """Trains the experts, keeps them, and returns the CPU seconds."""
    torch.set_num_threads(1)
    train, _ = halves()
    labels = np.stack([train.column(name) for name in LABELS], axis=1)
    labels[labels < FAILED] = np.nan
    ensemble = new_ensemble(each["encoder"], each["seed"])
    started = time.thread_time()
    train_experts(ensemble, train.architectures, labels, seed=each["seed"])
    seconds = time.thread_time() - started
    RUNS.mkdir(parents=True, exist_ok=True)
    save_file(ensemble.state_dict(), _experts_file(each))
    if each["seed"] == STORED_SEED:
        store(ensemble.experts.state_dict(), FOLDER, f"experts-{each['encoder']}", BITS)
    return seconds


def second_step(each: Mapping[str, Any]) -> dict[str, Any]:
    """Trains gate and experts on true labels, and returns tau and CPU seconds.

    `form` is "all"; "shares" for learned weights that are the same for all architectures; or "zero cost" without the
    expert of the 12-epoch accuracy.
    """
    torch.set_num_threads(1)
    whole = new_ensemble(each["encoder"], each["seed"])
    if each["full"]:
        whole.load_state_dict(load_file(_experts_file(each)))
    else:
        filled(whole.experts, FOLDER, f"experts-{each['encoder']}", made_by="within bench dele-tau --full")
    ensemble = whole
    if each["form"] == "shares":
        ensemble = new_ensemble(each["encoder"], each["seed"], dynamic=False)
        ensemble.experts = whole.experts
    elif each["form"] == "zero cost":
        ensemble = new_ensemble(each["encoder"], each["seed"], experts=len(LABELS) - 1)
        ensemble.experts = whole.experts[1:]
    known = first_rows(halves()[0], each["share"])
    started = time.thread_time()
    train_ensemble(ensemble, known.architectures, known.labels(LABEL), seed=each["seed"])
    return {"tau": tau(ensemble), "seconds": round(time.thread_time() - started, 1)}


def study(seeds: Sequence[int], *, full: bool, workers: int = 2) -> tuple[list[dict[str, Any]], list[float]]:
    """Returns the jobs of the second step with their taus, and the CPU seconds of the first steps.

    Arguments:
        seeds: to train with; without `full` only the stored one.
        full: train everything, at all shares; otherwise load the experts and learn from 1, 5 and 10 %.
        workers: processes.
    """
    encoders = ("GATES", "LSTM")
    firsts = [{"encoder": encoder, "seed": seed} for seed in seeds for encoder in encoders] if full else []
    seconds = parallel.map(
        first_step, firsts, workers=workers, results=RUNS / "experts.jsonl", description="Training experts"
    )
    seconds = list(seconds)
    shares = SHARES if full else SHARES[:3]
    jobs = [
        {"encoder": encoder, "seed": seed, "share": share, "form": form, "full": full}
        for share in shares
        for form in (("all", "shares", "zero cost") if share == SHARES[0] else ("all",))
        for encoder in encoders
        for seed in seeds
    ]
    jobs.sort(key=lambda each: -each["share"])
    results = RUNS / "ensembles.jsonl" if full else None
    found = parallel.map(second_step, jobs, workers=workers, results=results, description="Training ensembles")
    return [{**each, **figures} for each, figures in zip(jobs, found, strict=True)], seconds


def _experts_file(each: Mapping[str, Any]) -> Path:
    return RUNS / f"experts-{each['encoder']}-{each['seed']}.safetensors"
