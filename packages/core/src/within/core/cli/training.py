"""The frame of a training command: a run directory with the configuration, the last weights and the best ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from within.core.checkpoint import WEIGHTS, load_into, load_state, save_model, save_weights
from within.core.cli.run_directory import open_run_directory
from within.core.plan import Plan
from within.core.train.best_weights import BestWeights, Measure
from within.core.train.launch import Launch
from within.core.train.result import TrainingResult

if TYPE_CHECKING:
    from mmengine.config import Config

LAST = "last.safetensors"


def train_in(
    folder: Path,
    train: Callable[..., TrainingResult],
    network: nn.Module,
    plan: Plan,
    *,
    config: Config,
    launched: Launch,
    resume: bool = False,
    measure: Measure | None = None,
    validate_every: int | None = None,
) -> TrainingResult:
    """Trains a network in a run directory and leaves it with the best weights, or the last where nothing is measured.

    The directory receives `config.py`, `plan.json`, `model.safetensors` and `last.safetensors`, besides what `fit`
    writes.

    Arguments:
        folder: the run directory.
        train: trains the network in place; is called with it and with `processes`, and with `validate`,
            `validate_every`, `run_directory`, `resume` and `device` for `within.core.train.fit`.
        network: what is trained.
        plan: how the network was made; its provenance names it.
        config: is written into the directory.
        launched: the processes.
        resume: continue an interrupted run.
        measure: returns figures of the network, of which the first decides which weights are the best.
        validate_every: steps between two measurements.

    Raises:
        WithinError: when the directory exists and holds files, unless `resume`; and as `train` does.
    """
    keeper = None if measure is None else BestWeights(measure, plan, folder)
    with open_run_directory(folder, config, resume=resume, write=launched.is_main):
        result = train(
            network,
            processes=launched.world_size,
            validate=keeper,
            validate_every=None if keeper is None else validate_every,
            run_directory=folder,
            resume=resume,
            device=launched.device,
        )
    if launched.is_main:
        save_weights(network, folder / LAST, {"network": str(plan.provenance["network"])})
        if keeper is None:
            save_model(network, plan, folder)
        else:
            load_into(network, load_state(folder / WEIGHTS), where=str(folder / WEIGHTS))
    return result
