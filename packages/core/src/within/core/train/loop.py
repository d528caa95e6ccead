"""The iteration loop: mmengine's, but resumed in place instead of replaying all batches, reseeded every step, and
with an error that says where a NaN came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from mmengine.runner import IterBasedTrainLoop
from mmengine.runner.base_loop import BaseLoop
from torch import nn

from within.core.train.adapter import NonFiniteLossError, trained_model
from within.core.train.finite import explain_non_finite_loss
from within.core.train.launch import Launch
from within.core.train.randomness import MODEL, preserved_randomness, seed_everything, step_seed
from within.core.train.steps import StepLoader

Validate = Callable[[nn.Module], Mapping[str, float]]


class StepLoop(IterBasedTrainLoop):
    """Runs from the runner's current iteration to the last.

    Arguments:
        runner: the runner.
        dataloader: the steps.
        max_iters: iterations in all.
        val_interval: iterations between validations.
        teacher: examined when the loss is NaN.
        history: tells which validations a resumed run has behind it.
    """

    dataloader: StepLoader

    def __init__(
        self, runner: Any, dataloader: StepLoader, max_iters: int, val_interval: int, teacher: Any, history: Any
    ) -> None:
        super().__init__(runner, dataloader, max_iters, val_interval=val_interval)
        self.teacher, self.history = teacher, history

    def run(self) -> nn.Module:
        """Trains, and validates every `val_interval` iterations and after the last."""
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        self._validate_if_due()  # the run may have been killed between a checkpoint and its validation
        self.dataloader.start = self._iter
        batches = iter(self.dataloader)
        self.runner.model.train()
        while self._iter < self._max_iters and not self.stop_training:
            batch = next(batches)
            seed_everything(step_seed(self.dataloader.seed, self._iter, self.dataloader.rank, MODEL))
            self.run_iter(batch)
            self._validate_if_due()
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_iter(self, data_batch: Any) -> None:
        """Makes one step.

        Raises:
            WithinError: when the loss is NaN or infinite; the weights are those before the step.
        """
        try:
            super().run_iter(data_batch)
        except NonFiniteLossError:
            raise explain_non_finite_loss(
                iteration=self._iter + 1,
                batch=data_batch,
                item_names=self.dataloader.item_names(self._iter),
                network=trained_model(self.runner.model).network,
                teacher=self.teacher,
                learning_rate=self.runner.optim_wrapper.get_lr()["lr"][0],
            ) from None

    def _validate_if_due(self) -> None:
        due = self._iter > 0 and (self._iter % self.val_interval == 0 or self._iter == self._max_iters)
        if self.runner.val_loop is not None and due and not self.history.has_metrics(self._iter):
            self.runner.val_loop.run()
            self.runner.model.train()


class ValidationLoop(BaseLoop):
    """Calls one function on the network (on its averaged weights, where they are averaged) and records what it returns.

    Arguments:
        runner: the runner.
        dataloader, evaluator: what mmengine insists on; unused.
        validate: `validate(network) -> {name: figure}`, called in evaluation mode on the first process only.
        launched: the processes.
    """

    def __init__(self, runner: Any, dataloader: Any, evaluator: Any, validate: Validate, launched: Launch) -> None:
        super().__init__(runner, dataloader)
        self.validate, self.launched, self.evaluator = validate, launched, evaluator

    def run(self) -> dict[str, float]:
        """Returns the figures, the same on every process."""
        self.runner.call_hook("before_val")
        self.runner.call_hook("before_val_epoch")
        self.runner.model.eval()
        network = trained_model(self.runner.model).network
        figures: list[Any] = [None]
        if self.launched.is_main:
            with torch.no_grad(), preserved_randomness():
                figures = [{name: float(value) for name, value in self.validate(network).items()}]
        if self.launched.distributed:
            dist.broadcast_object_list(figures, src=0)
        self.runner.call_hook("after_val_epoch", metrics=figures[0])
        self.runner.call_hook("after_val")
        return dict(figures[0])
