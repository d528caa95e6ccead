"""Retraining with pruned weights held at zero: masked gradients, and masks applied again after every step.

Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks", NIPS 2015, section 3. The
gradients are masked as well as the weights, so that an optimiser's momentum never pulls a pruned weight for one step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from within.core.errors import WithinError
from within.core.train.adapter import trained_model


class SparseHook(Hook):
    """Holds masks during `fit`; the model stays plain.

    With `clip_gradients` the norm still counts the gradients of pruned weights.

    Arguments:
        masks: which weights stay, by name of the parameter.

    Raises:
        WithinError: at the start of training, when a mask fits no parameter.
    """

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        self.masks = masks
        self._held: list[tuple[nn.Parameter, Tensor]] = []

    def before_train(self, runner: Any) -> None:
        """Applies the masks and lets the optimiser see masked gradients."""
        parameters = named_parameters(runner.model, self.masks)
        self._held = [(each, self.masks[name].to(each.device)) for name, each in parameters.items()]
        runner.optim_wrapper.optimizer.register_step_pre_hook(self._mask_gradients)
        self._mask_weights()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Applies the masks: an optimiser that was resumed may hold momentum from before they were made."""
        self._mask_weights()

    def _mask_gradients(self, *_: Any) -> None:
        for parameter, mask in self._held:
            if parameter.grad is not None:
                parameter.grad.mul_(mask)

    def _mask_weights(self) -> None:
        with torch.no_grad():
            for parameter, mask in self._held:
                parameter.masked_fill_(~mask, 0.0)


def named_parameters(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Returns the parameters of the network under training that the tensors name.

    Raises:
        WithinError: when there is none of a name, or it has another shape.
    """
    parameters = dict(trained_model(model).network.named_parameters())
    for name, tensor in tensors.items():
        if name not in parameters:
            raise WithinError("The network has no parameter of this name", where=name, todo="name its parameters")
        if parameters[name].shape != tensor.shape:
            raise WithinError(
                f"The parameter has the shape {tuple(parameters[name].shape)}, not {tuple(tensor.shape)}", where=name
            )
    return {name: parameters[name] for name in tensors}
