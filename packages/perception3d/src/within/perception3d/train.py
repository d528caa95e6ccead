"""Train a detector as a configuration says; this is `within perception3d train`.

The run directory receives `config.py`, `plan.json` and `model.safetensors` (the weights with the best validation mAP),
`last.safetensors`, `training.json`, `logs/` and `checkpoints/`. Launched by torchrun, the processes share the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from within.core.cli.configuration import read_config, read_dataclass
from within.core.cli.run_directory import run_folder
from within.core.cli.training import train_in
from within.core.named_network import first_plan
from within.core.train import TrainingResult, fit
from within.core.train.launch import launch, share_of_batch
from within.core.train.randomness import seeded
from within.perception3d.ada3d.importance_loss import PUBLISHED, ImportanceTarget
from within.perception3d.ada3d.thinning import Ada3D
from within.perception3d.anchor_loss import AnchorLossWeights
from within.perception3d.center_loss import CenterLossWeights
from within.perception3d.data.scene import Scenes
from within.perception3d.detection_objective import (
    detection_objective,
    finish_rates,
    freeze,
    importance_objective,
    with_gradual_rates,
)
from within.perception3d.detection_settings import DetectionSchedule, DetectionSettings, Stage
from within.perception3d.eval import evaluate
from within.perception3d.named_detector import Network, build, detector_of, load_detector
from within.perception3d.scene_augmentation import Augmentation, object_samples
from within.perception3d.scene_sources import find_scenes
from within.perception3d.training_scenes import TrainingScenes


def main(
    config: str | Path | Mapping[str, Any],
    *,
    run_directory: str | Path | None = None,
    resume: bool = False,
    device: str | torch.device | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> TrainingResult:
    """Trains the detector of a configuration.

    Arguments:
        config: a Python configuration, or the settings themselves (see `DetectionSettings`).
        run_directory: receives all results; by default `runs/NAME`.
        resume: continue an interrupted run.
        device: None takes CUDA where there is one.
        overrides: settings that replace those of the file, dotted where nested: `{"schedule.epochs": 2}`.

    Raises:
        WithinError: when a setting is unknown, missing or impossible, and as the data sets and `fit` do.
    """
    launched = launch(device)
    read, where = read_config(config, overrides)
    settings = read_dataclass(DetectionSettings, read.to_dict(), where)
    scenes = find_scenes(settings.data, settings.split)
    held_out = None if settings.validation_split is None else find_scenes(settings.data, settings.validation_split)
    network = start(settings)
    folder = run_folder(settings.name, run_directory)
    plan = first_plan(network, settings.network, settings.arguments, seed=settings.seed)
    train = partial(
        train_detector,
        scenes=scenes,
        schedule=settings.schedule,
        stage=settings.stage,
        loss=settings.loss,
        anchor_loss=settings.anchor_loss,
        augmentation=settings.augmentation,
        importance=settings.importance,
        gradual=settings.gradual,
        description=settings.name,
        **settings.run_options(),
    )

    def measure(model: Network) -> dict[str, float]:
        assert held_out is not None
        return evaluate(model, held_out, decoding=settings.decoding, description="Validating").summary()

    return train_in(
        folder,
        train,
        network,
        plan,
        config=read,
        launched=launched,
        resume=resume,
        measure=None if held_out is None or settings.stage == "importance" else measure,
        validate_every=settings.validate_every * settings.schedule.rounds(len(scenes)),
    )


def start(settings: DetectionSettings) -> Network:
    """Returns the network as training finds it.

    Raises:
        WithinError: for an unknown network, or weights that do not fit.
    """
    network = seeded(settings.seed, lambda: build(settings.network, **settings.arguments))
    if settings.weights is not None:
        load_detector(network, settings.weights)
    return network


def train_detector(
    network: Network,
    scenes: Scenes,
    schedule: DetectionSchedule,
    *,
    stage: Stage,
    loss: CenterLossWeights,
    anchor_loss: AnchorLossWeights,
    augmentation: Augmentation | None,
    importance: ImportanceTarget = PUBLISHED,
    gradual: bool = False,
    processes: int = 1,
    **options: Any,
) -> TrainingResult:
    """Trains a detector in place.

    Arguments:
        network: a detector, or an `Ada3D` around one.
        scenes: what it is trained on.
        schedule: how.
        stage, loss, anchor_loss, augmentation, importance, gradual: see `DetectionSettings`.
        processes: that share a batch.
        options: further arguments of `within.core.train.fit`.

    Raises:
        WithinError: when the batch cannot be shared, and as `fit` does.
    """
    share = share_of_batch(schedule.batch_size, processes)
    detector = detector_of(network)
    samples = None
    if augmentation is not None and augmentation.sample:
        samples = object_samples(scenes, detector.classes, augmentation.least_points)
    grid = detector.grid
    if schedule.most_voxels is not None:
        grid = replace(grid, most_voxels=schedule.most_voxels)
    source = TrainingScenes(
        scenes, grid, detector.classes, augmentation, samples, values=detector.values, columns=detector.columns,
        keep=schedule.keep_scenes,
    )  # fmt: skip
    steps = schedule.steps(len(source))
    resting = freeze(network, stage)
    if stage == "importance":
        assert isinstance(network, Ada3D)
        objective = importance_objective(network, importance)
    else:
        objective = detection_objective(network, loss, anchor_loss)
    if gradual and isinstance(network, Ada3D):
        objective = with_gradual_rates(objective, network, steps)
    try:
        result = fit(
            network,
            source,
            iterations=steps,
            batch_size=share,
            objective=objective,
            optimizer=schedule.optimizer,
            schedule=schedule.one_cycle(steps),
            clip_gradients=schedule.clip_gradients,
            ema=schedule.ema,
            precision=schedule.precision,
            threads=schedule.threads,
            workers=schedule.workers,
            **options,
        )
    finally:
        for parameter in resting:
            parameter.requires_grad_(True)
    finish_rates(network)
    return result
