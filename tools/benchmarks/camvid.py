"""SwiftNet on CamVid: the dense network, and its pruned forms rewound (LTH), trained on (FT) and random (RI).

A narrow SwiftNet was trained with `tools.benchmarks.training.camvid_swiftnet`; the stored networks are evaluated again
here on the 101 validation images, at the size of the labels. Two cuts, three starts, three seeds. The random arm must
be below both others by more than two standard deviations (of seeds, the larger of the two arms compared).
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from tools.benchmarks.networks.camvid_study import FOLDER, SEEDS, segmentation_data, settings
from tools.benchmarks.networks.packed_weights import filled
from torch import nn

from within.core import Macs, Params, trace
from within.core.bench import BenchResult
from within.core.files import read_json
from within.core.plan import apply, read_plan
from within.core.progress import track
from within.segmentation.data import find_dataset
from within.segmentation.eval import evaluate
from within.segmentation.models import build
from within.segmentation.prediction import height_width
from within.segmentation.study import ARMS
from within.segmentation.training_settings import TrainingSettings

CUTS = ("first two blocks", "all four blocks")
LEAST_DENSE, DEVIATIONS, MOST_MINUTES = 60.0, 2.0, 60.0
MADE_BY = "python -m tools.benchmarks.training.camvid_swiftnet --directory runs/camvid"


def run(full: bool = False) -> BenchResult:
    """Evaluates the 21 stored networks; `full` changes nothing."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    study = settings()
    size, held_out = height_width(study.training.size), find_dataset(segmentation_data() / "camvid", "val")
    found: dict[tuple[str, str], list[float]] = {}
    counts: dict[str, tuple[int, int]] = {}
    names = [("dense", "dense"), *((cut, arm) for cut in CUTS for arm in ARMS)]
    for cut, arm in track(names, "Evaluating"):
        for seed in SEEDS:
            network = stored(study.training, cut, arm, seed)
            found.setdefault((cut, arm), []).append(100 * evaluate(network, held_out, size=size).scores().mean_iou)
        graph = trace(network, (torch.zeros(1, 3, *size),))
        counts[cut] = Params()(graph), Macs()(graph)
    means = {name: statistics.mean(values) for name, values in found.items()}
    deviations = {name: statistics.stdev(values) for name, values in found.items()}
    margins = {
        f"{cut}, {arm}": (means[cut, arm] - means[cut, "RI"]) / max(deviations[cut, arm], deviations[cut, "RI"])
        for cut in CUTS
        for arm in ("LTH", "FT")
    }
    minutes = float(read_json(FOLDER / "training.json")["cpu_minutes"])
    missed = [
        f"{name}: only {margin:.2f} deviations above RI" for name, margin in margins.items() if margin <= DEVIATIONS
    ]
    dense = means["dense", "dense"]
    if dense < LEAST_DENSE:
        missed.append(f"dense: {dense:.2f}")
    if minutes > MOST_MINUTES:
        missed.append(f"trained for {minutes} CPU-minutes")
    rows = [[cut, arm, *counts[cut], round(means[cut, arm], 2), round(deviations[cut, arm], 2)] for cut, arm in found]
    figures: dict[str, Any] = {
        "mean_iou": {f"{cut}, {arm}": [round(value, 2) for value in values] for (cut, arm), values in found.items()},
        "dense": round(dense, 2),
        "deviations_above_random": {name: round(value, 2) for name, value in margins.items()},
        "trained_cpu_minutes": minutes,
        "missed": missed,
        "seconds": round(time.perf_counter() - started),
    }
    columns = ["cut", "start", "parameters", "MACs", "mIoU, %", "deviation"]
    return BenchResult("camvid", not missed, figures, columns, rows)


def stored(training: TrainingSettings, cut: str, arm: str, seed: int) -> nn.Module:
    """Returns a trained network of the repository."""
    name = f"dense-{seed}" if arm == "dense" else f"{cut}-{arm}-{seed}".replace(" ", "-")
    network = build(training.network, **training.arguments)
    if arm != "dense":
        network = apply(read_plan(FOLDER / f"{name}.plan.json"), network)
    return filled(network, FOLDER, name, made_by=MADE_BY)
