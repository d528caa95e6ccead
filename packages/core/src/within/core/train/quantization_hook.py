"""Quantisation-aware training: when activations begin to be rounded, and when ranges stop following the weights.

(Jacob et al., CVPR 2018, section 3: activations are quantised after a delay; ranges that stand still near the end let
the weights settle on their grid. LSQ and PACT learn their ranges as parameters, and are left alone.)
"""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from torch import fx, nn

from within.core.errors import WithinError
from within.core.quantize.bias import round_biases
from within.core.quantize.fake_quantize import FakeQuantize
from within.core.quantize.insert import ACTIVATIONS
from within.core.train.adapter import trained_model


class QuantizationHook(Hook):
    """Switches quantisers during `fit`; at the end biases are put on their grid, as integers need them.

    Arguments:
        activations_from: iteration at which activations begin to be rounded.
        freeze_ranges_at: iteration from which the scales of weights stand still; None lets them follow to the end.
    """

    def __init__(self, activations_from: int = 0, freeze_ranges_at: int | None = None) -> None:
        if activations_from < 0 or (freeze_ranges_at is not None and freeze_ranges_at < 0):
            raise WithinError("An iteration of the quantisation hook is negative")
        self.activations_from = activations_from
        self.freeze_ranges_at = freeze_ranges_at

    def before_train(self, runner: Any) -> None:
        """Switches when the run starts or resumes."""
        self._switch(runner.model, runner.iter)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Switches for the next step."""
        self._switch(runner.model, runner.iter + 1)

    def after_train(self, runner: Any) -> None:
        """Rounds the biases."""
        network = trained_model(runner.model).network
        if isinstance(network, fx.GraphModule):
            round_biases(network)

    def _switch(self, model: nn.Module, iteration: int) -> None:
        frozen = self.freeze_ranges_at is not None and iteration >= self.freeze_ranges_at
        for name, part in trained_model(model).network.named_modules():
            if isinstance(part, FakeQuantize):
                if ACTIVATIONS in name:
                    part.enabled = iteration >= self.activations_from
                elif frozen:
                    part.follow = False
