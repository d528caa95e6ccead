"""Trains the networks of the bench `camvid` and stores them; about an hour of one CPU core.

    WITHIN_DATA=... python -m tools.benchmarks.training.camvid_swiftnet --directory runs/camvid

An interrupted run continues when it is called again. `--seeds 1` trains that seed only, so that seeds can be trained
side by side; the last call, without it, stores all of them.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from tools.benchmarks.networks.camvid_study import (
    FOLDER,
    PRETRAINING_STEPS,
    SEEDS,
    schedule,
    segmentation_data,
    settings,
)
from tools.benchmarks.networks.packed_weights import store

from within.core.checkpoint import load_tensors, save_weights
from within.core.files import atomic_write, read_json, write_json
from within.core.progress import track
from within.segmentation.data import SegmentationPairs, find_dataset
from within.segmentation.label_map import CITYSCAPES_TRAIN_IDS
from within.segmentation.models import build
from within.segmentation.models.espnet_v2 import ESPNetV2
from within.segmentation.prediction import predict
from within.segmentation.study import study
from within.segmentation.train import train_network
from within.segmentation.weights import load_espnet_v2

TEACHER = "espnetv2_s1.0_cityscapes_1024x512.safetensors"
TEACHER_SIZE = (512, 672)
PRETRAINING = {
    "batch_size": 4,
    "scale": (1.0, 1.5),
    "brightness": 0.2,
    "colour": 0.0,
    "optimizer": {"type": "AdamW", "lr": 2e-3, "weight_decay": 1e-4},
    "balance": 1.1,
    "ema": None,
}
BITS = 8


def main() -> None:
    """Trains, and stores what the bench needs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="of the runs")
    parser.add_argument("--seeds", type=int, nargs="*", help="train these only, and store nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.directory.mkdir(parents=True, exist_ok=True)
    start = pretrained(given.directory)
    results = study(settings(start, tuple(given.seeds or SEEDS)), given.directory)
    if given.seeds:
        return
    for each in results:
        name = f"dense-{each.seed}" if each.arm == "dense" else f"{each.cut}-{each.arm}-{each.seed}".replace(" ", "-")
        store(load_tensors(given.directory / name), FOLDER, name, BITS)
        if each.arm != "dense":
            write_json(FOLDER / f"{name}.plan.json", read_json(given.directory / name / "plan.json"))
    seconds = {f"{each.cut}, {each.arm}, {each.seed}": each.cpu_seconds for each in results}
    before = read_json(given.directory / "pretraining.json")["cpu_seconds"]
    minutes = round((sum(seconds.values()) + before) / 60, 1)
    write_json(
        FOLDER / "training.json",
        {"cpu_minutes": minutes, "cpu_seconds": seconds, "pretraining_cpu_seconds": before},
    )


def pretrained(directory: Path) -> Path:
    """Returns the weights that all networks but the random ones start from; makes them where they are not there."""
    path, record = directory / "pretrained.safetensors", directory / "pretraining.json"
    if record.is_file():
        return path
    started = time.process_time()
    torch.manual_seed(0)
    training = settings().training
    network = build(training.network, **{**training.arguments, "classes": CITYSCAPES_TRAIN_IDS.num_classes})
    train_network(
        network,
        imitated(directory / "imitated"),
        replace(schedule(training.schedule, PRETRAINING_STEPS), **PRETRAINING),
        run_directory=directory / "pretraining",
        resume=(directory / "pretraining").is_dir(),
        description="Pretraining",
    )
    save_weights(network, path)
    write_json(record, {"cpu_seconds": round(time.process_time() - started, 1)})
    return path


def imitated(folder: Path) -> SegmentationPairs:
    """Returns the training images with what the teacher sees in them, written once as label files."""
    data = segmentation_data()
    pairs = find_dataset(data / "camvid", "train")
    teacher = ESPNetV2().eval()
    load_espnet_v2(teacher, data / "weights" / TEACHER)
    folder.mkdir(parents=True, exist_ok=True)
    labels = []
    for index in track(range(len(pairs)), "Labels of the teacher"):
        labels.append(folder / f"{pairs.images[index].stem}.png")
        if labels[-1].is_file():
            continue
        found = predict(teacher, pairs.read(index)[0][None].float(), size=TEACHER_SIZE)[0]
        found[found >= CITYSCAPES_TRAIN_IDS.num_classes] = CITYSCAPES_TRAIN_IDS.ignore
        with atomic_write(labels[-1]) as temporary:
            Image.fromarray(found.to(torch.uint8).numpy()).save(temporary, format="PNG")
    return SegmentationPairs(pairs.images, tuple(labels), CITYSCAPES_TRAIN_IDS)


if __name__ == "__main__":
    main()
