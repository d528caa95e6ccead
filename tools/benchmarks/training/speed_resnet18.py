"""Trains the two networks of the bench `speed`: ResNet-18 for ten classes at 224x224, and its half-width pruning.

    python -m tools.benchmarks.training.speed_resnet18 --directory runs/speed

From scratch on the 12,000 training images of the CIFAR-10 subset, enlarged, with the supplied ResNet-32 as the teacher
(on the same crops at their own 32 pixels). Most steps are taken on smaller images, which costs a twelfth to a quarter,
the last at 224 (progressive resizing; Howard and Gugger, 2020). Then `prune` halves every width, and the result is
trained in the same way. Finished stages are kept in the directory, and an interrupted one continues from its last
checkpoint. bfloat16 halves the time where the CPU has instructions for it; the weights stay in single precision.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tools.benchmarks.networks.packed_weights import store
from tools.benchmarks.networks.real import cifar_images, trained_cifar_resnet
from tools.benchmarks.networks.speed_images import Enlarging
from tools.benchmarks.networks.speed_networks import (
    FOLDER,
    PLAN,
    SIZE,
    build,
    dense_network,
    pruned_network,
)
from tools.data.cifar10 import CroppedImages
from tools.data.top1 import top1
from torch import nn

from within.core.distill import KnowledgeDistillation
from within.core.files import atomic_write, read_json, write_json
from within.core.plan import read_plan
from within.core.pruning import load, prune, save
from within.core.train import fit

TEACHER_DEPTH = 32  # the best of the supplied ones on these images
SHOWN = 500  # test images after each stage; nothing is chosen by them
BITS = {"dense": 6, "pruned": 8}  # of a stored weight's code


@dataclass(frozen=True)
class Stage:
    """Steps at one image size, under a half cosine after a short rise."""

    size: int
    epochs: float
    batch: int
    learning_rate: float


DENSE = (Stage(64, 14, 64, 0.1), Stage(112, 3, 64, 0.03), Stage(224, 0.6, 16, 0.01), Stage(224, 0.5, 16, 0.007))
PRUNED = (Stage(112, 4, 64, 0.03), Stage(224, 1, 16, 0.01))


def main() -> None:
    """Trains both networks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--directory", type=Path, required=True, help="where stages and checkpoints go")
    directory: Path = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    dense = trained(build(), DENSE, directory / "dense")
    if not (directory / "pruned" / "plan.json").is_file():
        save(prune(dense.eval(), (torch.rand(1, 3, SIZE, SIZE),), widths=0.5), directory / "pruned")
    pruned = trained(load(directory / "pruned", build), PRUNED, directory / "pruned")
    keep(dense, pruned, directory)


def keep(dense: nn.Module, pruned: nn.Module, directory: Path) -> None:
    """Stores both networks and the record of their training for the bench."""
    store(dense.state_dict(), FOLDER, "dense", BITS["dense"])
    store(pruned.state_dict(), FOLDER, "pruned", BITS["pruned"])
    read_plan(directory / "pruned" / "plan.json").write(FOLDER / PLAN)
    images, labels = cifar_images("test", 0, SHOWN)
    record: dict[str, Any] = {}
    for name, trained_one, stored in (("dense", dense, dense_network()), ("pruned", pruned, pruned_network())):
        record[name] = {
            "stages": [read_json(path) for path in sorted((directory / name).glob("stage_*.json"))],
            "bits": BITS[name],
            "bytes": sum(path.stat().st_size for path in FOLDER.glob(f"{name}_*.packed")),
            "top1_before_storing": top1(Enlarging(trained_one.eval(), SIZE), images, labels, batch=50),
            "top1_as_stored": top1(Enlarging(stored, SIZE), images, labels, batch=50),
        }
    write_json(FOLDER / "training.json", record)


def trained(network: nn.Module, stages: Sequence[Stage], directory: Path) -> nn.Module:
    """Takes the network through the stages, in place; each leaves `stage_NUMBER.safetensors`."""
    crops = CroppedImages(*cifar_images("train"))
    test_images, test_labels = cifar_images("test", 0, SHOWN)
    directory.mkdir(parents=True, exist_ok=True)
    for number, stage in enumerate(stages):
        weights = directory / f"stage_{number}.safetensors"
        if not weights.is_file():
            started = time.process_time()
            result = fit(
                Enlarging(network, stage.size),
                crops,
                iterations=round(stage.epochs * len(crops) / stage.batch),
                batch_size=stage.batch,
                loss=F.cross_entropy,
                teacher=trained_cifar_resnet(TEACHER_DEPTH),
                distillation=KnowledgeDistillation(temperature=4.0, weight=0.9),
                optimizer={
                    "type": "SGD", "lr": stage.learning_rate, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4,
                },
                schedule="warm_cosine",
                precision="bfloat16",
                channels_last=True,
                threads=1,
                run_directory=directory / f"stage_{number}",
                checkpoint_every=100,
                keep_checkpoints=1,
                resume=True,
                description=f"{directory.name} at {stage.size}",
            )  # fmt: skip
            write_json(
                directory / f"stage_{number}.json",
                {
                    "size": stage.size,
                    "epochs": stage.epochs,
                    "cpu_minutes": round((time.process_time() - started) / 60, 1),
                    "losses": result.losses,
                    "top1": top1(Enlarging(network.eval(), stage.size), test_images, test_labels, batch=50),
                    "top1_at_224": top1(Enlarging(network.eval(), SIZE), test_images, test_labels, batch=50),
                },
            )
            with atomic_write(weights) as temporary:
                save_file({name: value.contiguous() for name, value in network.state_dict().items()}, temporary)
        network.load_state_dict(load_file(weights))
        print({key: value for key, value in read_json(directory / f"stage_{number}.json").items() if key != "losses"})
    return network


if __name__ == "__main__":
    main()
