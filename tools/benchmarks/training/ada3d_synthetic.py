"""Trains the detectors of the bench `ada3d` on synthetic scenes and stores them; about an hour of one CPU core.

    python -m tools.benchmarks.training.ada3d_synthetic --directory runs/ada3d

dense and narrow are trained by themselves; on sparse (SP-BN) the importance predictor is trained, and then the detector
with places dropped, which gives the weights of all variants. An interrupted run continues when it is called again;
`--only` does some of them, so that two processes can share the work.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from tools.benchmarks.networks.ada3d_networks import ARGUMENTS, BITS, FOLDER, FRAMES, NETWORK, SEED
from tools.benchmarks.networks.packed_weights import store

from within.core.files import read_json, write_json
from within.perception3d.eval import evaluate
from within.perception3d.named_detector import open_detector
from within.perception3d.scene_sources import find_scenes
from within.perception3d.synthetic_kitti import write_scenes
from within.perception3d.train import main as train

STEPS = {"dense": 1000, "sparse": 1000, "narrow": 600, "importance": 600, "tuned": 600}
RATES = {"detector": 4e-3, "importance": 4e-3, "tuning": 2e-3}
BATCH = 2
TIMES = "training.json"


def main() -> None:
    """Trains what is asked for and stores it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="of scenes and runs")
    parser.add_argument("--only", nargs="*", default=list(STEPS), help="names of networks")
    given = parser.parse_args()
    torch.set_num_threads(1)
    write_scenes(given.directory / "scenes", FRAMES, SEED)
    for name in given.only:
        one(name, given.directory)
    found = {name: read_json(path) for name in STEPS if (path := given.directory / name / TIMES).is_file()}
    if len(found) == len(STEPS):
        minutes = sum(each["cpu_seconds"] for each in found.values()) / 60
        write_json(FOLDER / TIMES, {"cpu_minutes": round(minutes, 1), "networks": found})


def one(name: str, directory: Path) -> None:
    """Trains one network, unless that is done, and stores it."""
    run = directory / name
    if (run / TIMES).is_file() and "cpu_seconds" in read_json(run / TIMES):
        return
    started = time.process_time()
    train(settings(name, directory), run_directory=run, resume=(run / "checkpoints").is_dir())
    spent = time.process_time() - started
    network = open_detector(run).model
    if name != "importance":
        mean = evaluate(network, find_scenes(directory / "scenes", "val")).summary()
        print(name, {key: round(value, 2) for key, value in mean.items()}, round(spent), "CPU-seconds", flush=True)
        store(network.state_dict(), FOLDER, name, BITS)
    write_json(run / TIMES, {"cpu_seconds": round(spent, 1), "steps": STEPS[name]})


def settings(name: str, directory: Path) -> dict[str, Any]:
    """Returns the training of one network."""
    stage, weights = "detector", None
    if name == "importance":
        stage, weights = "importance", directory / "sparse"
    elif name not in ("dense", "narrow", "sparse"):
        stage, weights = "tuning", directory / "importance"
    schedule: dict[str, Any] = {
        "iterations": STEPS[name], "batch_size": BATCH, "clip_gradients": 35.0, "keep_scenes": True,
        "rate": RATES[stage],
    }  # fmt: skip
    if stage != "detector":
        schedule["division"] = 1.0
    return {
        "name": name,
        "network": NETWORK,
        "data": str(directory / "scenes"),
        "schedule": schedule,
        "arguments": dict(ARGUMENTS[name]),
        "stage": stage,
        "weights": None if weights is None else str(weights),
        "loss": {"nearest": True, "boxes": 1.0},
        "augmentation": {"rotation": 0.1, "scale": (0.97, 1.03)},
        "importance": {"boxes": True},
        "validation_split": None,
        "seed": SEED,
        "checkpoint_every": 100,
        "keep_checkpoints": 1,
    }


if __name__ == "__main__":
    main()
