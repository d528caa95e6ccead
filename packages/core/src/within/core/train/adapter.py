"""Any `nn.Module` as the model that mmengine's Runner trains; taken apart again when training ends."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from within.core.device.inference import positional
from within.core.errors import WithinError
from within.core.train.batch_norm import freeze_batch_norm


class NonFiniteLossError(Exception):
    """The loss of a step is NaN or infinite; raised before the step changes any weight."""


class TrainedModel(BaseModel):
    """A network and what it minimises.

    Arguments:
        network: the network under training; it stays the same object.
        objective: `objective(network, inputs, target) -> {name: scalar}`; the terms are summed.
        channels_last: whether four-dimensional inputs are laid out so.
    """

    def __init__(self, network: nn.Module, objective: Callable[..., Any], *, channels_last: bool = False) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.channels_last = channels_last
        self.batch_norm_is_frozen = False

    def forward(self, inputs: Any, target: Any = None, mode: str = "loss") -> dict[str, Tensor]:
        """Returns the named terms of the loss; mmengine calls it with `mode="loss"` only."""
        arguments = positional(inputs)
        if self.channels_last:
            arguments = tuple(
                value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value for value in arguments
            )
        return dict(self.objective(self.network, arguments, target))

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Sums the terms, and stops a step whose loss is no number before it spoils the weights.

        Raises:
            NonFiniteLossError: when the sum is NaN or infinite.
            WithinError: when a term is no scalar.
        """
        for name, value in losses.items():
            if value.ndim:
                raise WithinError(
                    f"{name} has the shape {tuple(value.shape)}", where="loss", todo="return a scalar: sum or mean it"
                )
        total = torch.stack(list(losses.values())).sum() if len(losses) > 1 else next(iter(losses.values()))
        if not torch.isfinite(total):
            raise NonFiniteLossError
        log = OrderedDict(loss=total.detach())
        if len(losses) > 1:
            log.update((name, value.detach()) for name, value in losses.items())
        return total, log

    def train(self, mode: bool = True) -> TrainedModel:
        """Sets the mode; frozen batch norm stays in evaluation mode."""
        super().train(mode)
        if self.batch_norm_is_frozen:
            freeze_batch_norm(self.network)
        return self

    def init_weights(self) -> None:
        """Does nothing: mmengine would call the network's own `init_weights` and wipe out trained weights."""


def trained_model(model: Any) -> TrainedModel:
    """Returns the `TrainedModel` inside what mmengine calls the model, which several processes wrap once more."""
    found = getattr(model, "module", model)
    assert isinstance(found, TrainedModel)
    return found
