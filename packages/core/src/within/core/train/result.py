"""What a training run leaves behind besides the trained model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of `fit`.

    Attributes:
        model: the very model that was passed in, trained; its weights are the averaged ones where `ema` was given.
        iterations: iterations in all, those before a resume included.
        losses: (iteration, mean training loss since the entry before).
        metrics: (iteration, figures) of each validation.
        seconds: wall time of this process.
        resumed_from: the iteration a checkpoint continued from, or None.
        checkpoint: the last checkpoint, or None where no run directory was given.
    """

    model: nn.Module
    iterations: int
    losses: tuple[tuple[int, float], ...]
    metrics: tuple[tuple[int, Mapping[str, float]], ...]
    seconds: float
    resumed_from: int | None
    checkpoint: Path | None

    def to_json(self) -> dict[str, Any]:
        """Returns plain values: the last loss and figures, and the run directory."""
        return {
            "iterations": self.iterations,
            "loss": self.losses[-1][1] if self.losses else None,
            "metrics": dict(self.metrics[-1][1]) if self.metrics else {},
            "seconds": self.seconds,
            "resumed_from": self.resumed_from,
            "run": str(self.checkpoint.parents[1]) if self.checkpoint else None,
        }
