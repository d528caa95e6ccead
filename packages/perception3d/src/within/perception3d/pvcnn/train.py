"""Trains a point network as a configuration says, through `within.core.train.fit`.

The run directory receives `config.py`, `plan.json` and `model.safetensors` (the weights with the best validation),
`last.safetensors`, `training.json`, `logs/` and `checkpoints/`. Launched by torchrun, the processes share the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from within.core.cli.configuration import read_config, read_dataclass
from within.core.cli.run_directory import run_folder
from within.core.cli.training import train_in
from within.core.named_network import first_plan
from within.core.train import TrainingResult, fit
from within.core.train.launch import launch, share_of_batch
from within.core.train.randomness import seeded
from within.perception3d.data.frustum import labelled_frustums, read_frames
from within.perception3d.data.s3dis import areas_of
from within.perception3d.data.s3dis_rooms import open_rooms
from within.perception3d.data.shapenet_part import ShapeNetParts
from within.perception3d.pvcnn.evaluation import PointEvaluation, evaluate_frustums, evaluate_parts, evaluate_rooms
from within.perception3d.pvcnn.frustum_items import FrustumItems
from within.perception3d.pvcnn.frustum_loss import FrustumTarget, frustum_losses
from within.perception3d.pvcnn.published_layout import load_weights
from within.perception3d.pvcnn.registry import build, variant
from within.perception3d.pvcnn.training_settings import PointSchedule, PointTrainingSettings

Evaluate = Callable[[Any], PointEvaluation]


def main(
    config: str | Path | Mapping[str, Any],
    *,
    run_directory: str | Path | None = None,
    resume: bool = False,
    device: str | torch.device | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> TrainingResult:
    """Trains the network of a configuration.

    Arguments:
        config: a Python configuration, or the settings themselves (see `PointTrainingSettings`).
        run_directory: receives all results; by default `runs/NAME`.
        resume: continue an interrupted run.
        device: None takes CUDA where there is one.
        overrides: settings that replace those of the file, dotted where nested: `{"schedule.epochs": 2}`.

    Raises:
        WithinError: when a setting is unknown, missing or impossible, and as the readers and `fit` do.
    """
    launched = launch(device)
    read, where = read_config(config, overrides)
    settings = read_dataclass(PointTrainingSettings, read.to_dict(), where)
    known = variant(settings.network)
    points = settings.points or known.points
    items, evaluate = data_of(known.task, settings, points)
    network = start(settings)
    folder = run_folder(settings.name, run_directory)
    example = tuple(each for each in items[0][0]) if known.task == "frustums" else (items[0][0],)
    inputs = tuple(each[None] for each in example)
    plan = first_plan(network, settings.network, settings.arguments, inputs, seed=settings.seed)
    train = partial(
        train_network, items=items, schedule=settings.schedule, description=settings.name, **settings.run_options()
    )
    return train_in(
        folder,
        train,
        network,
        plan,
        config=read,
        launched=launched,
        resume=resume,
        measure=(lambda model: evaluate(model).figures) if settings.validate_every else None,
        validate_every=settings.validate_every * settings.schedule.rounds(len(items)),
    )


def start(settings: PointTrainingSettings) -> nn.Module:
    """Returns the network as training finds it.

    Raises:
        WithinError: for an unknown network, or weights that do not fit.
    """
    network = seeded(settings.seed, lambda: build(settings.network, **settings.arguments))
    if settings.weights is not None:
        load_weights(network, settings.weights)
    return network


def data_of(task: str, settings: PointTrainingSettings, points: int) -> tuple[Any, Evaluate]:
    """Returns what a network is trained on, item by item, and how it is validated.

    Arguments:
        task: "rooms", "parts" or "frustums".
        settings: where the data are.
        points: of a cloud.
    """
    votes, seed = settings.validation_votes, settings.seed
    if task == "rooms":
        held_out = cache(lambda: open_rooms(settings.data, areas_of("test", settings.holdout), points=points))
        rooms = open_rooms(settings.data, areas_of("train", settings.holdout), points=points)
        return rooms, lambda network: evaluate_rooms(network, held_out(), votes=votes, seed=seed)
    if task == "parts":
        shapes = ShapeNetParts(settings.data, "train", points=points, normals=settings.normals, jitter=True)
        others = cache(lambda: ShapeNetParts(settings.data, "test", points=points, normals=settings.normals))
        return shapes, lambda network: evaluate_parts(network, others(), votes=votes, seed=seed)
    root, lists = Path(settings.data) / "training", Path(settings.data) / "ImageSets"
    seen = labelled_frustums(root, read_frames(lists / f"{settings.split}.txt"), copies=settings.copies, seed=seed)
    unseen = cache(lambda: labelled_frustums(root, read_frames(lists / f"{settings.validation_split}.txt")))
    items = FrustumItems(seen, points=points, augment=True)
    return items, lambda network: evaluate_frustums(network, unseen(), points=points, seed=seed)


def train_network(
    network: nn.Module, items: Any, schedule: PointSchedule, *, processes: int = 1, **options: Any
) -> TrainingResult:
    """Trains a network in place.

    Arguments:
        network: a frustum network, or one that maps features of points to scores.
        items: what it is trained on.
        schedule: how.
        processes: that share a batch.
        options: further arguments of `within.core.train.fit`.

    Raises:
        WithinError: when the batch cannot be shared, and as `fit` does.
    """
    target: dict[str, Any] = (
        {"objective": frustum_objective} if isinstance(items, FrustumItems) else {"loss": F.cross_entropy}
    )
    return fit(
        network,
        items,
        iterations=schedule.steps(len(items)),
        batch_size=share_of_batch(schedule.batch_size, processes, least=2),  # batch norm needs two
        **target,
        optimizer=schedule.optimizer,
        schedule=schedule.scheduler(len(items)),
        precision=schedule.precision,
        threads=schedule.threads,
        workers=schedule.workers,
        **options,
    )


def frustum_objective(network: Any, inputs: tuple[Tensor, ...], target: FrustumTarget) -> dict[str, Tensor]:
    """Returns the terms of the frustum loss of a batch."""
    return frustum_losses(network(*inputs), target, network.sizes)
