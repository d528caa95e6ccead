"""Training of shared weights: all members of a cluster move together.

Han, Mao, Dally, "Deep Compression", ICLR 2016, section 3.3: a centroid's gradient is the sum of its members' gradients
(eq. 3). The parameters stay ordinary ones. Before each step of the optimiser every member receives the sum, so that all
of them take the same step; after it, rounding differences between them are removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import EMAHook, Hook
from torch import nn

from within.core.errors import WithinError
from within.core.packing.weight_sharing import SharedWeight
from within.core.train.sparse_hook import named_parameters


class WeightSharingHook(Hook):
    """Keeps weights shared during `fit` and trains their centroids; zeros stay zero; the model stays plain.

    Arguments:
        shared: the sharing of each weight, by name of the parameter. Training starts from its centroids.

    Raises:
        WithinError: at the start of training, when a sharing fits no parameter, or weights are averaged (`ema`), which
            would take members of a cluster apart.
    """

    def __init__(self, shared: Mapping[str, SharedWeight]) -> None:
        self.shared = dict(shared)
        self._held: list[tuple[nn.Parameter, SharedWeight]] = []

    def before_train(self, runner: Any) -> None:
        """Sets the weights, unless a checkpoint did, and lets the optimiser see summed gradients."""
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise WithinError("Shared weights cannot be averaged", where="ema", todo="leave ema out")
        parameters = named_parameters(runner.model, {name: each.codes for name, each in self.shared.items()})
        for name, parameter in parameters.items():
            each = self.shared[name]
            moved = SharedWeight(each.codes.to(parameter.device), each.centroids.to(parameter))
            self._held.append((parameter, moved))
            if runner.iter == 0:
                with torch.no_grad():
                    parameter.copy_(moved.weight())
        runner.optim_wrapper.optimizer.register_step_pre_hook(self._sum_gradients)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Makes the members of each cluster equal in every bit."""
        with torch.no_grad():
            for parameter, shared in self._held:
                parameter.copy_(shared.gathered(parameter).weight())

    def _sum_gradients(self, *_: Any) -> None:
        for parameter, shared in self._held:
            if parameter.grad is not None:
                sums = SharedWeight(shared.codes, shared.centroid_gradient(parameter.grad))
                parameter.grad.copy_(sums.weight())
