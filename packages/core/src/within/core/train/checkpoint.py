"""Checkpoints that are whole or absent, that hold plain values only, and that refuse to continue another run.

Workaround for mmengine 0.10.7: its checkpoints carry pickled history buffers, which `torch.load(weights_only=True)`
rightly refuses. Ours hold tensors, numbers, strings and containers of these, so they load under the strict check and
no class has to be declared safe; smoothing windows of the text log are the one thing that is lost.
mmengine also removes the oldest checkpoint before it writes the new one, and writes in place; here the new file is
written beside and renamed first, so a kill or a full disk at any moment leaves a checkpoint to resume from.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import CheckpointHook
from torch import Tensor, nn

from within.core.errors import WithinError
from within.core.files import atomic_write
from within.core.train.finite import require_finite

FORMAT = 1
_NAME = "iteration_{:09d}.pth"


class AtomicCheckpointHook(CheckpointHook):
    """Saves every `interval` iterations and at the end; keeps the last `keep`.

    Arguments:
        folder: where the checkpoints lie.
        interval: iterations between two checkpoints.
        keep: number of checkpoints to keep.
    """

    def __init__(self, folder: Path, *, interval: int, keep: int) -> None:
        super().__init__(interval=interval, by_epoch=False, out_dir=str(folder))
        self.folder, self.keep = folder, keep

    def before_train(self, runner: Any) -> None:
        """Creates the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WithinError(
                f"Could not create the checkpoint folder: {error.strerror}",
                where=str(self.folder),
                todo="choose another run directory",
            ) from error

    def save(self, runner: Any, iteration: int) -> Path:
        """Writes the checkpoint of the state after `iteration` iterations, then removes the oldest ones."""
        path = self.folder / _NAME.format(iteration)
        runner.save_checkpoint(str(self.folder), path.name, meta={"iter": iteration, "epoch": 0}, by_epoch=False)
        self.last_ckpt = str(path)
        if runner.rank == 0:
            for old in checkpoints(self.folder)[: -self.keep]:
                old.unlink(missing_ok=True)
        return path

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        self.save(runner, step)


def checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"iteration_\d{9}\.pth", path.name))


def write_checkpoint(path: Path, state: Mapping[str, Any], model: nn.Module) -> None:
    """Writes a checkpoint.

    Raises:
        WithinError: when the weights hold NaN or infinity, or the file cannot be written; earlier ones stay intact.
    """
    require_finite(
        model,
        what="network under training",
        todo="no checkpoint was written; lower the learning rate or clip the gradients, and resume from the last one",
    )
    buffer = io.BytesIO()  # torch's own file writer reports a full disk as an internal error
    torch.save({"format": FORMAT, **state}, buffer)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_checkpoint(path: Path, settings: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Reads a checkpoint and checks that it continues this very run.

    Arguments:
        path: the file.
        settings: what defines the run: seed, iterations, optimizer, ...
        model: the model that is going to receive the weights.

    Raises:
        WithinError: when the file is damaged or not a checkpoint of this package; when a setting differs, naming it;
            when the weights are those of another architecture, naming keys and shapes.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise WithinError(
            f"The checkpoint cannot be read ({type(error).__name__})",
            where=str(path),
            todo="remove this file to continue from the one before it",
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise WithinError("The file is not a training checkpoint of this version", where=str(path))
    _same_settings(state["meta"]["settings"], settings, path)
    _same_architecture(state["state_dict"], model, path)
    return state


def _same_settings(saved: Mapping[str, Any], settings: Mapping[str, Any], path: Path) -> None:
    for name, value in settings.items():
        if saved.get(name) != value:
            raise WithinError(
                f"The checkpoint belongs to a run with other settings: {name} was {saved.get(name)!r}, now {value!r}",
                where=str(path),
                todo="resume with the settings of that run, or start a new run directory",
            )


def _same_architecture(saved: Mapping[str, Tensor], model: nn.Module, path: Path) -> None:
    own = model.state_dict()
    differing = [name for name in own.keys() & saved.keys() if own[name].shape != saved[name].shape]
    faults = [
        *(f"{name} is missing" for name in sorted(own.keys() - saved.keys())),
        *(f"{name} is not in the model" for name in sorted(saved.keys() - own.keys())),
        *(f"{name} is {tuple(saved[name].shape)}, the model has {tuple(own[name].shape)}" for name in differing),
    ]
    if faults:
        more = f" and {len(faults) - 4} more" if len(faults) > 4 else ""
        raise WithinError(
            f"The checkpoint holds another architecture: {'; '.join(faults[:4])}{more}",
            where=str(path),
            todo="resume with the model of that run, or start a new run directory",
        )
