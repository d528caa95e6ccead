"""Train a detector as a configuration says; this is `within perception3d train`.

The run directory receives `config.py`, `plan.json` and `model.safetensors` (the weights with the best validation mAP),
`last.safetensors`, `training.json`, `logs/` and `checkpoints/`. Launched by torchrun, the processes share the work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from within.core.checkpoint import WEIGHTS, load_into, load_state, save_model, save_weights
from within.core.cli.configuration import read_config
from within.core.cli.run_directory import open_run_directory
from within.core.errors import WithinError
from within.core.files import write_json
from within.core.plan import Plan
from within.core.train import TrainingResult, fit
from within.core.train.launch import launch
from within.core.train.randomness import preserved_randomness, seed_everything
from within.perception3d.ada3d.thinning import Ada3D
from within.perception3d.center_decoding import Decoding
from within.perception3d.data.scene import Scenes
from within.perception3d.detection_objective import (
    detection_objective,
    finish_rates,
    freeze,
    importance_objective,
    with_gradual_rates,
)
from within.perception3d.detection_settings import DetectionSettings, detection_settings
from within.perception3d.eval import evaluate
from within.perception3d.named_detector import Network, build, detector_of, first_plan, load_detector
from within.perception3d.scene_augmentation import object_samples
from within.perception3d.scene_sources import find_scenes
from within.perception3d.training_scenes import TrainingScenes

BEST = "best.json"


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
    settings = detection_settings(read.to_dict(), where=where)
    scenes = find_scenes(settings.data, settings.split)
    held_out = None if settings.validation_split is None else find_scenes(settings.data, settings.validation_split)
    network = start(settings)
    folder = Path(run_directory) if run_directory is not None else Path("runs") / settings.name
    plan = first_plan(network, settings.network, settings.arguments, seed=settings.seed)
    keeper = None
    if held_out is not None and settings.stage != "importance":
        keeper = BestDetector(held_out, plan, folder, settings.decoding)
    rounds = settings.schedule.rounds(len(scenes))
    with open_run_directory(folder, read, resume=resume, write=launched.is_main):
        result = train_detector(
            network,
            scenes,
            settings,
            processes=launched.world_size,
            validate=keeper,
            validate_every=None if keeper is None else settings.validate_every * rounds,
            run_directory=folder,
            resume=resume,
            device=launched.device,
            description=settings.name,
            **settings.run_options(),
        )
    if launched.is_main:
        save_weights(network, folder / "last.safetensors", {"network": settings.network})
        if keeper is None:
            save_model(network, plan, folder)
        else:
            load_into(network, load_state(folder / WEIGHTS), where=str(folder / WEIGHTS))
    return result


def start(settings: DetectionSettings) -> Network:
    """Returns the network as training finds it.

    Raises:
        WithinError: for an unknown network, or weights that do not fit.
    """
    with preserved_randomness():
        seed_everything(settings.seed)
        network = build(settings.network, **settings.arguments)
    if settings.weights is not None:
        load_detector(network, settings.weights)
    return network


def train_detector(
    network: Network, scenes: Scenes, settings: DetectionSettings, *, processes: int = 1, **options: Any
) -> TrainingResult:
    """Trains a detector in place.

    Arguments:
        network: a detector, or an `Ada3D` around one.
        scenes: what it is trained on.
        settings: how; its stage says what is trained.
        processes: that share a batch.
        options: further arguments of `within.core.train.fit`.

    Raises:
        WithinError: when the batch cannot be shared, and as `fit` does.
    """
    schedule = settings.schedule
    if schedule.batch_size % processes:
        raise WithinError(
            f"The batch size {schedule.batch_size} cannot be divided among {processes} processes",
            todo="start a number of processes that divides it",
        )
    detector, augmentation = detector_of(network), settings.augmentation
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
    resting = freeze(network, settings.stage)
    if settings.stage == "importance":
        assert isinstance(network, Ada3D)
        objective = importance_objective(network)
    else:
        objective = detection_objective(network, settings.loss, settings.anchor_loss)
    if settings.gradual and isinstance(network, Ada3D):
        objective = with_gradual_rates(objective, network, steps)
    try:
        result = fit(
            network,
            source,
            iterations=steps,
            batch_size=schedule.batch_size // processes,
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


class BestDetector:
    """A validation that keeps the weights with the best mAP in the run directory, over interruptions too.

    Arguments:
        scenes: what is measured on.
        plan: how the network was made.
        folder: the run directory.
        decoding: how boxes are read.
    """

    def __init__(self, scenes: Scenes, plan: Plan, folder: Path, decoding: Decoding) -> None:
        self.scenes, self.plan, self.folder, self.decoding = scenes, plan, folder, decoding

    def __call__(self, network: Any) -> dict[str, float]:
        """Returns mAP and the average precision of each class in per cent."""
        figures = evaluate(network, self.scenes, decoding=self.decoding, description="Validating").summary()
        best = self.folder / BEST
        before = float(json.loads(best.read_text())["mAP"]) if best.is_file() else -1.0
        if figures["mAP"] > before:
            save_model(network, self.plan, self.folder)
            write_json(best, figures)
        return figures
