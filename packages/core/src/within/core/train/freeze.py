"""Batch norm whose running statistics stand still from an iteration on, as quantisation-aware training wants it."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from torch import nn

from within.core.train.adapter import trained_model


class FreezeBatchNormHook(Hook):
    """Holds the running statistics of batch norm fixed from an iteration on.

    Arguments:
        begin: number of iterations with moving statistics.
    """

    def __init__(self, begin: int) -> None:
        self.begin = begin

    def before_train(self, runner: Any) -> None:
        """Freezes at once when the run starts or resumes beyond the point."""
        self._freeze(runner.model, runner.iter)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Freezes for the next step."""
        self._freeze(runner.model, runner.iter + 1)

    def _freeze(self, model: nn.Module, iteration: int) -> None:
        adapter = trained_model(model)
        if iteration >= self.begin and not adapter.batch_norm_is_frozen:
            adapter.batch_norm_is_frozen = True
            adapter.train(adapter.training)
