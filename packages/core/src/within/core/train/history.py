"""The record of a training run: losses and validation figures, carried across resumes by the checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook


class HistoryHook(Hook):
    """Keeps the mean loss of every interval and the figures of every validation, across resumes.

    Arguments:
        interval: iterations a loss entry covers.
    """

    priority = "ABOVE_NORMAL"  # its record must be complete when the checkpoint is written

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.losses: list[tuple[int, float]] = []
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self._sum, self._count = 0.0, 0

    def has_metrics(self, iteration: int) -> bool:
        """Returns whether the validation after `iteration` iterations is on record."""
        return any(recorded == iteration for recorded, _ in self.metrics)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Adds the loss of the step."""
        self._sum += float(outputs["loss"])
        self._count += 1
        iteration = runner.iter + 1
        if iteration % self.interval == 0 or iteration == runner.max_iters:
            self.losses.append((iteration, self._sum / self._count))
            self._sum, self._count = 0.0, 0
            for scalar in runner.message_hub.log_scalars.values():
                # mmengine copies a scalar's whole history at every step; only the window of the text log is needed.
                scalar.max_length = max(self.interval, 100)

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Adds the figures of a validation."""
        self.metrics.append((runner.iter, dict(metrics or {})))

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Stores the record."""
        checkpoint["history"] = {
            "losses": list(self.losses),
            "metrics": list(self.metrics),
            "open": (self._sum, self._count),
        }

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Restores the record."""
        saved = checkpoint["history"]
        self.losses, self.metrics = list(saved["losses"]), list(saved["metrics"])
        self._sum, self._count = saved["open"]
