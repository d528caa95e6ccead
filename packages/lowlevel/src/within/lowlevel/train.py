"""Train a restoration network as a configuration says; this is `within lowlevel train`.

The run directory receives `config.py`, `model.safetensors`, `training.json`, `logs/` and `checkpoints/`. Launched by
torchrun, the processes share the work, and the batch size of the configuration is divided among them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from within.core.checkpoint import WEIGHTS, save_weights
from within.core.cli.configuration import read_config, read_dataclass
from within.core.cli.run_directory import open_run_directory, run_folder
from within.core.distill import OutputDistillation
from within.core.train import TrainingResult, fit
from within.core.train.launch import launch, share_of_batch
from within.core.train.randomness import seeded
from within.lowlevel.basicsr_training import settings_from_options
from within.lowlevel.configured_data import training_source, validation
from within.lowlevel.fine_tune import fine_tune, prepare_fine_tuning
from within.lowlevel.losses import build_loss
from within.lowlevel.models import build
from within.lowlevel.options import read_options
from within.lowlevel.training_settings import TrainingSettings
from within.lowlevel.weights import load_weights

__all__ = ["fine_tune", "main", "prepare_fine_tuning"]


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
        config: a Python configuration, an option file of BasicSR (.yml), or the settings themselves.
        run_directory: receives all results; by default `runs/NAME`.
        resume: continue an interrupted run.
        device: None takes CUDA where there is one.
        overrides: settings that replace those of the file, dotted where nested: `{"train.gt": "...", "iterations": 2}`.

    Raises:
        WithinError: when a setting is unknown, missing or impossible, and as the data sets and `fit` do.
    """
    launched = launch(device)
    if isinstance(config, (str, Path)) and Path(config).suffix in (".yml", ".yaml"):
        config = settings_from_options(read_options(Path(config)), launched.world_size)
    read, where = read_config(config, overrides)
    settings = read_dataclass(TrainingSettings, read.to_dict(), where)
    share = share_of_batch(settings.batch_size, launched.world_size, where=settings.name)
    loss = None if settings.loss is None else build_loss(**settings.loss)
    network, teacher = _network(settings), _teacher(settings)
    source, validate = training_source(settings), validation(settings)
    folder = run_folder(settings.name, run_directory)
    rounds = math.ceil(len(source) / settings.batch_size)
    with open_run_directory(folder, read, resume=resume, write=launched.is_main):
        result = fit(
            network,
            source,
            iterations=settings.iterations if settings.iterations is not None else (settings.epochs or 0) * rounds,
            batch_size=share,
            loss=loss,
            **teacher,
            validate=validate,
            validate_every=settings.validation.every if settings.validation is not None else None,
            optimizer=settings.optimizer,
            schedule=settings.schedule if settings.epochs is None else in_iterations(settings.schedule, rounds),
            clip_gradients=settings.clip_gradients,
            ema=settings.ema,
            run_directory=folder,
            resume=resume,
            device=launched.device,
            precision=settings.precision,
            channels_last=settings.channels_last,
            threads=settings.threads,
            workers=settings.workers,
            description=settings.name,
            **settings.run_options(),
        )
    if launched.is_main:
        save_weights(network, folder / WEIGHTS, {"network": settings.network, "config": settings.name})
    return result


def in_iterations(schedule: Any, rounds: int) -> Any:
    """Returns a schedule that is counted in epochs as one counted in iterations, `rounds` to the epoch."""
    if isinstance(schedule, Mapping):
        counted = ("begin", "end", "step_size", "T_max")
        listed = ("milestones", "periods")
        return {
            name: value * rounds if name in counted else [item * rounds for item in value] if name in listed else value
            for name, value in schedule.items()
        }
    if isinstance(schedule, (list, tuple)):
        return [in_iterations(part, rounds) for part in schedule]
    return schedule


def _network(settings: TrainingSettings) -> nn.Module:
    network = seeded(settings.seed, lambda: build(settings.network, **settings.arguments))
    if settings.weights is not None:
        load_weights(
            network, settings.path(settings.weights), strict=settings.weights_strict, wrapper=settings.weights_entry
        )
    return network


def _teacher(settings: TrainingSettings) -> dict[str, Any]:
    teacher = settings.teacher
    if teacher is None:
        return {}
    network = build(teacher.network, **teacher.arguments)
    load_weights(network, settings.path(teacher.weights))
    return {"teacher": network, "distillation": OutputDistillation(teacher.distance, teacher.weight)}
