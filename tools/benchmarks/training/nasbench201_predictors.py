"""Predictors on NAS-Bench-201 by the authors' protocol: what the benches of ranking train, each as one job.

The first 7,813 of the 15,625 official numbers are to learn from, the others to test on, as far as the table at hand
holds them; a share p means the first int(p N) of them. The label is the CIFAR-10 test accuracy after 200 epochs; the
figure is Kendall's tau-b over the test architectures. Jobs run side by side, one thread each, and are kept in a file:
an interrupted study goes on.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau
from tools.benchmarks.networks.packed_weights import filled, store

from within.core import parallel
from within.core.bench import benchmark_folder
from within.core.errors import WithinError
from within.nas.comparator import Comparator, train_comparator
from within.nas.comparator import scores as comparator_scores
from within.nas.encoders.gates_edge import GatesEdgeEncoder
from within.nas.encoders.gcn import GcnEdgeEncoder
from within.nas.encoders.sequence import LstmEncoder, MlpEncoder
from within.nas.predictor import Predictor, scores, train_predictor
from within.nas.spaces import nasbench201
from within.nas.tables.nasbench201_table import read
from within.nas.tables.table import Table

TRAINED, LABEL = 7_813, "cifar10_test_acc_200ep"
SHARES = (0.01, 0.05, 0.1, 0.5, 1.0)
SEEDS = (0, 1, 2)
STORED = (0.5, 1.0)  # shares whose networks are kept in the repository, as training them takes long
BITS = 8
RUNS = Path("runs") / "benchmarks" / "nasbench201"  # what `full` has trained; delete it to train anew
ENCODERS: Mapping[str, Any] = {
    "MLP": functools.partial(MlpEncoder, 6),
    "LSTM": functools.partial(LstmEncoder, (5,) * 6),
    "GCN": functools.partial(GcnEdgeEncoder, nasbench201.EDGES, 5),
    "GATES": functools.partial(GatesEdgeEncoder, nasbench201.EDGES, 5),
    "GATES-200": functools.partial(GatesEdgeEncoder, nasbench201.EDGES, 5),
}
WIDTHS: Mapping[str, tuple[int, ...]] = {
    "MLP": (), "LSTM": (), "GCN": (300,) * 5, "GATES": (300,) * 5, "GATES-200": (200,),
}  # fmt: skip


def table_file() -> Path:
    """Returns the path of the table.

    Raises:
        WithinError: when it is not there.
    """
    path = Path(os.environ.get("WITHIN_DATA", "data")) / "nas" / "nasbench201.parquet"
    if not path.is_file():
        raise WithinError(
            "The table of NAS-Bench-201 is not there", where=str(path), todo="set WITHIN_DATA (see docs/data.md)"
        )
    return path


@functools.cache
def halves() -> tuple[Table, Table]:
    """Returns the architectures to learn from and those to test on."""
    table = read(table_file())
    number = table.column("arch_idx")
    return table.rows(np.flatnonzero(number < TRAINED)), table.rows(np.flatnonzero(number >= TRAINED))


def first_rows(table: Table, share: float) -> Table:
    """Returns the first rows of a table."""
    return table.rows(range(max(2, int(share * len(table)))))


def tau(predictor: torch.nn.Module) -> float:
    """Returns Kendall's tau-b over the test architectures."""
    _, test = halves()
    score = comparator_scores if isinstance(predictor, Comparator) else scores
    return float(kendalltau(score(predictor, test.architectures), test.labels(LABEL)).statistic)  # type: ignore[operator]


def new_predictor(encoder: str, loss: str, seed: int) -> torch.nn.Module:
    """Returns a predictor, or a comparator, before training."""
    torch.manual_seed(seed)
    kind = Comparator if loss == "comparator" else Predictor
    return kind(ENCODERS[encoder](), WIDTHS[encoder])


def train(encoder: str, loss: str, share: float, seed: int) -> tuple[torch.nn.Module, float]:
    """Returns a trained predictor and the CPU seconds of its training."""
    predictor = new_predictor(encoder, loss, seed)
    known = first_rows(halves()[0], share)
    labels = known.labels(LABEL)
    started = time.thread_time()
    if isinstance(predictor, Comparator):
        train_comparator(predictor, known.architectures, labels, seed=seed)
    else:
        train_predictor(predictor, known.architectures, labels, loss=loss, seed=seed)
    return predictor, time.thread_time() - started


def job(each: Mapping[str, Any]) -> dict[str, Any]:
    """Trains one predictor, keeps it if `keep` names a file, and returns its tau and CPU seconds."""
    torch.set_num_threads(1)
    predictor, seconds = train(each["encoder"], each["loss"], each["share"], each["seed"])
    if each.get("keep"):
        store(predictor.state_dict(), Path(each["folder"]), each["keep"], BITS)
    return {"tau": tau(predictor), "seconds": round(seconds, 2)}


def again(each: Mapping[str, Any]) -> dict[str, Any]:
    """Measures a predictor that is kept in the repository."""
    torch.set_num_threads(1)
    predictor = new_predictor(each["encoder"], each["loss"], each["seed"])
    filled(predictor, Path(each["folder"]), each["keep"], made_by=each["made_by"])
    return {"tau": tau(predictor), "seconds": math.nan}


def jobs(
    encoders: Sequence[str], losses: Sequence[str], shares: Sequence[float], seeds: Sequence[int], folder: Path | None
) -> list[dict[str, Any]]:
    """Returns a job for each combination; with a folder, those of the long shares keep their networks there."""
    found = []
    for encoder in encoders:
        for loss in losses:
            for share in shares:
                for seed in seeds:
                    each: dict[str, Any] = {"encoder": encoder, "loss": loss, "share": share, "seed": seed}
                    if folder is not None and share in STORED:
                        each |= {"folder": str(folder), "keep": f"{encoder}-{loss}-{share:g}-{seed}"}
                    found.append(each)
    return found


def study(
    encoders: Sequence[str], losses: Sequence[str], seeds: Sequence[int] = SEEDS, *, full: bool, workers: int = 2
) -> list[dict[str, Any]]:
    """Returns the jobs with their taus: all trained anew with `full`, otherwise those of the long shares from files."""
    folder = benchmark_folder() / "artefacts" / "nasbench201"
    everything = jobs(encoders, losses, SHARES, seeds, folder)
    made_by = f"within bench {'gates-tau' if len(losses) == 1 else 'losses-tau'} --full"
    kept = [] if full else [{**each, "made_by": made_by} for each in everything if "keep" in each]
    to_train = [each for each in everything if full or "keep" not in each]
    runs = RUNS / "predictors.jsonl" if full else None
    found = parallel.map(job, to_train, workers=workers, results=runs, description="Training predictors", key=_key)
    measured = [again(each) for each in kept]
    return [{**each, **figures} for each, figures in zip([*to_train, *kept], [*found, *measured], strict=True)]


def means(found: Sequence[Mapping[str, Any]], **which: Any) -> list[float]:
    """Returns the mean tau over the seeds for each share, of the jobs with these settings."""
    chosen = [each for each in found if all(each[name] == value for name, value in which.items())]
    return [float(np.mean([each["tau"] for each in chosen if each["share"] == share])) for share in SHARES]


def _key(each: Mapping[str, Any]) -> str:
    return "-".join(str(each[name]) for name in ("encoder", "loss", "share", "seed"))
