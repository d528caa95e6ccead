"""One small training run, for tests that kill it: `python train_run.py DIRECTORY [--die-at N] [--signal NAME]`."""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from torch import nn

from within.core.train import TrainingResult, fit

ITERATIONS = 24


class SendSignal(Hook):
    """Sends this process a signal in the middle of an iteration."""

    def __init__(self, iteration: int, number: int) -> None:
        self.iteration, self.number = iteration, number

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), self.number)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(4, 1, 3, padding=1)
        )


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    clean = torch.rand(19, 1, 8, 8, generator=generator)
    return clean + 0.1 * torch.randn(clean.shape, generator=generator), clean


def run(directory: Path | None, **options: Any) -> TrainingResult:
    inputs, target = data()
    settings: dict[str, Any] = {
        "iterations": ITERATIONS,
        "batch_size": 4,
        "loss": F.mse_loss,
        "optimizer": {"type": "AdamW", "lr": 1e-2, "weight_decay": 1e-2},
        "schedule": [
            {"type": "LinearLR", "start_factor": 0.1, "begin": 0, "end": 5},
            {"type": "MultiStepLR", "milestones": [10, 16], "gamma": 0.5},
        ],
        "ema": 0.9,
        "channels_last": True,
        "clip_gradients": 1.0,
        "checkpoint_every": 5,
        "validate": lambda net: {"mse": F.mse_loss(net(inputs), target)},
        "validate_every": 6,
        "log_every": 4,
        "device": "cpu",
        "run_directory": directory,
    }
    return fit(network(), (inputs, target), **{**settings, **options})


def digest(model: nn.Module) -> str:
    """Returns a hash of all bits of all weights."""
    hashed = hashlib.sha256()
    for name, value in model.state_dict().items():
        hashed.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--die-at", type=int, default=0)
    parser.add_argument("--signal", default="SIGKILL")
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    hooks = [SendSignal(arguments.die_at, getattr(signal, arguments.signal))] if arguments.die_at else []
    result = run(arguments.directory, hooks=hooks, resume=arguments.resume)
    rank = os.environ.get("RANK", "0")  # print() writes in pieces, between which another process may write
    sys.stdout.write(f"{rank} {digest(result.model)}\n")
