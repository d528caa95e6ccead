"""How much each layer alone costs in few bits: the change of the network's answer when only that layer is quantised.

    e_l = || f_l(x) - f(x) ||^2 / || f(x) ||^2

over calibration data, where f_l rounds the weights of layer l and the tensor that it reads, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from within.core.device.inference import evaluating, positional
from within.core.device.runtimes import as_tuple
from within.core.errors import WithinError
from within.core.progress import track
from within.core.quantize.fake_quantize import FakeQuantize, only
from within.core.quantize.insert import Quantized


@dataclass(frozen=True)
class LayerSensitivity:
    """A layer, the bits of its weights and input, and the relative squared error that it causes alone."""

    layer: str
    weight_bits: int | None
    activation_bits: int | None
    error: float


def layer_sensitivities(quantized: Quantized, batches: Sequence[Any]) -> list[LayerSensitivity]:
    """Returns the sensitivity of every quantised layer, in execution order.

    Arguments:
        quantized: calibrated.
        batches: inputs, tensors or tuples of tensors.

    Raises:
        WithinError: when there are no batches.
    """
    if not batches:
        raise WithinError("There are no data to measure sensitivities on", where="layer_sensitivities")
    module = quantized.module
    every = {name: part for name, part in module.named_modules() if isinstance(part, FakeQuantize)}
    found = []
    with evaluating(module):
        with only(module, ()):
            reference = [as_tuple(module(*positional(batch))) for batch in batches]
        power = sum(float(output.double().square().sum()) for outputs in reference for output in outputs)
        stay = {item.name for item in quantized.placement.left}
        layers = [layer for layer in dict.fromkeys(quantized.placement.layers.values()) if layer not in stay]
        for layer in track(layers, "measuring layers"):
            weights = [path for path, readers in quantized.weights.items() if layer in readers]
            inputs = [path for path, readers in quantized.activations.items() if layer in readers]
            if not weights and not inputs:
                continue
            error = 0.0
            with only(module, (*weights, *inputs)):
                for batch, outputs in zip(batches, reference, strict=True):
                    for output, expected in zip(as_tuple(module(*positional(batch))), outputs, strict=True):
                        error += float((output - expected).double().square().sum())
            found.append(LayerSensitivity(layer, _bits(every, weights), _bits(every, inputs), error / (power or 1.0)))
    return found


def _bits(every: dict[str, FakeQuantize], names: Sequence[str]) -> int | None:
    return min((every[name].grid.bits for name in names), default=None)
