"""Trains the networks of the bench `board` and stores them; about twenty minutes of one CPU core.

    WITHIN_DATA=... python -m tools.benchmarks.training.board_swiftnet --directory runs/board

The dense network starts from the ResNet-18 of the bench `speed`, is trained on CamVid, cut to half of the widths of all
stages, and trained on. An interrupted run continues when it is called again.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from tools.benchmarks.networks import speed_networks
from tools.benchmarks.networks.board_networks import ARGUMENTS, FOLDER, NETWORK, PLAN
from tools.benchmarks.networks.camvid_study import schedule, segmentation_data, settings
from tools.benchmarks.networks.packed_weights import store
from torch import nn

from within.core.checkpoint import load_into, load_state, save_weights
from within.core.files import write_json
from within.segmentation.data import find_dataset
from within.segmentation.eval import evaluate
from within.segmentation.models import build
from within.segmentation.named_network import first_plan
from within.segmentation.stage_pruning import prune_stages
from within.segmentation.train import train_network, training_crops
from within.segmentation.training_settings import Schedule
from within.segmentation.weights.encoder_layout import load_encoder

STEPS = {"dense": 600, "pruned": 600}
WORKING = (240, 320)
BITS = 8


def main() -> None:
    """Trains both and stores them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="of the runs")
    directory = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    started = time.process_time()
    data = segmentation_data() / "camvid"
    validation = find_dataset(data, "val")
    crops = training_crops(find_dataset(data, "train"), board_schedule(1))
    start = directory / "resnet18.safetensors"
    save_weights(speed_networks.dense_network(), start)
    dense = build(NETWORK, **ARGUMENTS)
    load_encoder(dense.encoder, start)  # type: ignore[arg-type]
    figures = {}
    for name in STEPS:
        network = dense
        if name == "pruned":
            plan = first_plan(dense, WORKING, NETWORK, ARGUMENTS)
            pruned = prune_stages(dense, (torch.zeros(1, 3, *WORKING),), plan=plan)
            pruned.plan.write(FOLDER / PLAN)
            network = pruned.model
        _trained(network, crops, STEPS[name], directory / name)
        figures[name] = round(100 * evaluate(network, validation, size=WORKING).scores().mean_iou, 2)
        store(network.state_dict(), FOLDER, name, BITS)
    minutes = (time.process_time() - started) / 60
    write_json(FOLDER / "training.json", {"cpu_minutes": round(minutes, 1), "mean_iou": figures, "size": WORKING})


def board_schedule(steps: int) -> Schedule:
    """Returns how both are trained: like the networks of the bench `camvid`, at half the rate, the encoder slower."""
    base = schedule(settings().training.schedule, steps)
    return replace(base, optimizer={**base.optimizer, "lr": 1e-3}, encoder_factor=0.5)


def _trained(network: nn.Module, crops: object, steps: int, place: Path) -> None:
    done = place / "last.safetensors"
    if done.is_file():
        load_into(network, load_state(done), where=str(done))
        return
    train_network(
        network,
        crops,  # type: ignore[arg-type]
        board_schedule(steps),
        run_directory=place,
        checkpoint_every=50,
        keep_checkpoints=1,
        resume=place.is_dir(),
        description=place.name,
    )
    save_weights(network, done)


if __name__ == "__main__":
    main()
