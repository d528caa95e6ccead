"""A calibrated network whose layers take any bits at once: what a search for bits evaluates.

Ranges are found once for every bit width, in floating point, and kept, so that trying other bits is one forward pass.
The weights of a layer and the tensor that it reads are on the grids of `quantize`; additions and outputs stay in float.

With `correct`, the input of every batch normalisation gets back the mean and deviation that it has in float, channel by
channel on the batch at hand,

    y' = (y_q - E[y_q]) sd(y) / sd(y_q) + E[y],

which is what the correction `moments` of `quantize` will do after the bits are chosen: bits are then judged as they
will be used, at the price of one forward pass still. For the network in float it is the identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from within.core.device.inference import positional
from within.core.errors import WithinError
from within.core.quantize.calibrate import calibrate_activations, calibrate_weights
from within.core.quantize.correction import LARGEST_FACTOR
from within.core.quantize.cost_table import UNTOUCHED, Bits, CostTable
from within.core.quantize.fake_quantize import FakeQuantize
from within.core.quantize.insert import insert_quantizers


class BitTrial:
    """The network at given bits, over calibration data.

    Arguments:
        model: in floating point, with one tensor as output; not modified.
        inputs: example inputs.
        table: names the layers and says which bits there are, 2 to 8.
        calibration: batches of inputs, tensors or tuples of tensors.
        correct: judge bits with the correction `moments`; other layers than those before a batch normalisation are not
            corrected.
        calibrator: how ranges of activations are found; see `quantize.calibrators`.

    Raises:
        WithinError: when the table has a layer that the model has not, or bits without a grid; when calibration is
            missing or holds NaN.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Sequence[Any],
        table: CostTable,
        calibration: Sequence[Any],
        *,
        correct: bool = True,
        calibrator: str = "max",
    ) -> None:
        quantized = insert_quantizers(model, inputs, fold=False, join=False)
        self.module, self.layers = quantized.module.eval(), table.layers
        self.batches = [positional(batch) for batch in calibration]
        numbers = {name: number for number, name in enumerate(table.layers)}
        missing = [name for name in table.layers if name not in set(quantized.placement.layers.values())]
        if missing:
            raise WithinError(f"The model has no layer named {missing[0]!r}", where="the cost table")
        self._operands = [
            _Operand(
                self.module.get_submodule(path), operand, tuple(numbers[name] for name in readers if name in numbers)
            )
            for operand, found in enumerate((quantized.weights, quantized.activations))
            for path, readers in found.items()
        ]
        for bits in sorted({*table.weight_bits, *table.activation_bits}):
            for each in self._operands:
                each.quantizer.grid = replace(each.quantizer.grid, bits=bits)
            calibrate_weights(quantized)
            calibrate_activations(quantized, self.batches, calibrator=calibrator)
            for each in self._operands:
                each.scales[bits] = (each.quantizer.scale.clone(), each.quantizer.zero_point.clone())
        self._norms = [_Matched.in_place_of(self.module, path) for path in _norms(self.module)] if correct else []
        self.expected = self([(UNTOUCHED, UNTOUCHED)] * len(table))
        for norm in self._norms:
            norm.recording = False
        self._expected_probability = self.expected.log_softmax(1)

    def set(self, bits: Sequence[Bits]) -> None:
        """Puts the layers, in the order of the table, on these bits of weights and inputs; -1 leaves one in float.

        A tensor that several layers read takes the most bits that one of them asks for.

        Raises:
            WithinError: when there are not as many pairs as layers, or a width that was not calibrated.
        """
        if len(bits) != len(self.layers):
            raise WithinError(f"There are {len(bits)} pairs of bits for {len(self.layers)} layers", where="bits")
        for each in self._operands:
            width = max((bits[reader][each.operand] for reader in each.readers), default=UNTOUCHED)
            each.quantizer.enabled = width != UNTOUCHED
            if width == UNTOUCHED:
                continue
            if width not in each.scales:
                raise WithinError(
                    f"There are no ranges for {width} bits",
                    where=self.layers[each.readers[0]],
                    todo=f"choose from {sorted(each.scales)}",
                )
            each.quantizer.grid = replace(each.quantizer.grid, bits=width)
            each.quantizer.scale, each.quantizer.zero_point = each.scales[width]

    def __call__(self, bits: Sequence[Bits]) -> Tensor:
        """Returns the answers to the calibration data at these bits, batches one after the other.

        Raises:
            WithinError: as `set`.
        """
        self.set(bits)
        answers = []
        with torch.no_grad():
            for number, batch in enumerate(self.batches):
                for norm in self._norms:
                    norm.batch = number
                answers.append(self.module(*batch))
        return torch.cat(answers)

    def divergence(self, bits: Sequence[Bits]) -> float:
        """Returns KL(float || these bits), mean over the data, of class probabilities along axis 1.

        Raises:
            WithinError: as `set`.
        """
        found = self(bits).log_softmax(1)
        total = F.kl_div(found, self._expected_probability, reduction="sum", log_target=True)
        return float(total) / (found.numel() / found.shape[1])


class _Operand:
    """A quantiser, whose layers it serves (0: weights, 1: inputs), and its scales for every width."""

    def __init__(self, quantizer: nn.Module, operand: int, readers: tuple[int, ...]) -> None:
        assert isinstance(quantizer, FakeQuantize)
        self.quantizer, self.operand, self.readers = quantizer, operand, readers
        self.scales: dict[int, tuple[Tensor, Tensor]] = {}


class _Matched(nn.Module):
    """A batch normalisation that first gives its input the moments which it recorded for the same batch in float."""

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.norm, self.recording, self.batch = norm, True, 0
        self.moments: dict[int, tuple[Tensor, Tensor]] = {}

    @classmethod
    def in_place_of(cls, module: nn.Module, path: str) -> _Matched:
        owner, _, name = path.rpartition(".")
        made = cls(cast(_BatchNorm, module.get_submodule(path)))
        setattr(module.get_submodule(owner), name, made)
        return made

    def forward(self, values: Tensor) -> Tensor:
        over = [0, *range(2, values.dim())]
        variance, mean = torch.var_mean(values, over, correction=0)
        if self.recording:
            self.moments[self.batch] = variance.sqrt(), mean
            return cast(Tensor, self.norm(values))
        deviation, expected = self.moments[self.batch]
        factor = deviation / variance.sqrt()
        usable = torch.isfinite(factor) & (factor > 1 / LARGEST_FACTOR) & (factor < LARGEST_FACTOR)
        factor = torch.where(usable, factor, 1.0)
        shape = [1, -1, *[1] * (values.dim() - 2)]
        factor, offset = factor.view(shape), (expected - factor * mean).view(shape)
        return cast(Tensor, self.norm(torch.addcmul(offset, values, factor)))


def _norms(module: nn.Module) -> list[str]:
    return [path for path, part in module.named_modules() if isinstance(part, _BatchNorm)]
