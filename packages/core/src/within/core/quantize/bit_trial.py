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
from dataclasses import dataclass, field, replace
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
from within.core.quantize.grid import Grid
from within.core.quantize.insert import Quantized, insert_quantizers


class BitTrial:
    """The network at given bits, over calibration data.

    Arguments:
        model: in floating point, with class scores along axis 1 of its one output; not modified.
        inputs: example inputs.
        table: names the layers and says which bits there are, 2 to 8.
        calibration: batches of inputs, tensors or tuples of tensors.
        correct: judge bits with the correction `moments`; layers that no batch normalisation follows are not corrected.
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
        known = set(quantized.placement.layers.values())
        missing = [name for name in table.layers if name not in known]
        if missing:
            raise WithinError(f"The model has no layer named {missing[0]!r}", where="the cost table")
        self.module, self.layers = quantized.module.eval(), table.layers
        self.batches = [positional(batch) for batch in calibration]
        widths = sorted({*table.weight_bits, *table.activation_bits})
        self._operands = _operands(quantized, table.layers, widths, self.batches, calibrator)
        self._norms = [_Matched.in_place_of(self.module, path) for path in _norms(self.module)] if correct else []
        self.answers_in_float = self([(UNTOUCHED, UNTOUCHED)] * len(table))
        for norm in self._norms:
            norm.recording = False

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
            if width != UNTOUCHED and width not in each.grids:
                raise WithinError(
                    f"There are no ranges for {width} bits",
                    where=self.layers[each.readers[0]],
                    todo=f"choose from {sorted(each.grids)}",
                )
            each.set(width)

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
        """Returns KL(float || these bits) of the class probabilities, mean over the data: a loss without labels.

        Raises:
            WithinError: as `set`.
        """
        expected, found = (scores.log_softmax(1) for scores in (self.answers_in_float, self(bits)))
        total = F.kl_div(found, expected, reduction="sum", log_target=True)
        return float(total) / (found.numel() / found.shape[1])


@dataclass(frozen=True)
class _Operand:
    """A quantiser, and what it was calibrated to for every width.

    Attributes:
        quantizer: the module in the network.
        operand: 0 for weights, 1 for the tensor that layers read.
        readers: numbers of those layers.
        grids: for every width, grid, scale and zero point.
    """

    quantizer: FakeQuantize
    operand: int
    readers: tuple[int, ...]
    grids: dict[int, tuple[Grid, Tensor, Tensor]] = field(default_factory=dict)

    def set(self, width: int) -> None:
        """Puts the quantiser on a width, or leaves the tensor in float."""
        self.quantizer.enabled = width != UNTOUCHED
        if self.quantizer.enabled:
            self.quantizer.grid, scale, zero_point = self.grids[width]
            self.quantizer.set_scale(scale, zero_point)


def _operands(
    quantized: Quantized, layers: Sequence[str], widths: Sequence[int], batches: Sequence[Any], calibrator: str
) -> list[_Operand]:
    """Calibrates all quantisers for every width, and puts operands in their place."""
    numbers = {name: number for number, name in enumerate(layers)}
    made = [
        _Operand(quantizer, operand, tuple(numbers[name] for name in readers if name in numbers))
        for operand, found in enumerate((quantized.weights, quantized.activations))
        for quantizer, readers in ((quantized.module.get_submodule(path), found[path]) for path in found)
        if isinstance(quantizer, FakeQuantize)
    ]
    for width in widths:
        for each in made:
            each.quantizer.grid = replace(each.quantizer.grid, bits=width)
        calibrate_weights(quantized)
        calibrate_activations(quantized, batches, calibrator=calibrator)
        for each in made:
            found = each.quantizer
            each.grids[width] = found.grid, found.scale.detach().clone(), found.zero_point.clone()
    return made


class _Matched(nn.Module):
    """In place of a batch normalisation: gives its input the moments that the same batch had in float, then does it."""

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.norm, self.recording, self.batch = norm, True, 0
        self.moments: dict[int, tuple[Tensor, Tensor]] = {}

    @classmethod
    def in_place_of(cls, module: nn.Module, path: str) -> _Matched:
        made = cls(cast(_BatchNorm, module.get_submodule(path)))
        _put(module, path, made)
        return made

    def forward(self, values: Tensor) -> Tensor:
        over = [0, *range(2, values.dim())]
        mean = values.mean(over)
        deviation = (values.square().mean(over) - mean.square()).clamp(min=0).sqrt()
        if self.recording:
            self.moments[self.batch] = mean, deviation
            return cast(Tensor, self.norm(values))
        expected_mean, expected_deviation = self.moments[self.batch]
        factor = expected_deviation / deviation
        usable = torch.isfinite(factor) & (factor > 1 / LARGEST_FACTOR) & (factor < LARGEST_FACTOR)
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain = torch.ones_like(mean) if norm.weight is None else norm.weight
        bias = torch.zeros_like(mean) if norm.bias is None else norm.bias
        # gain (y' - mu) / sigma + bias, written as a normalisation of y_q
        shift = bias + gain * (expected_mean - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        return F.batch_norm(
            values, mean, norm.running_var, gain * torch.where(usable, factor, 1.0), shift, False, 0.0, norm.eps
        )


def _norms(module: nn.Module) -> list[str]:
    return [
        path for path, part in module.named_modules() if isinstance(part, _BatchNorm) and part.running_var is not None
    ]


def _put(module: nn.Module, path: str, made: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(module.get_submodule(owner), name, made)
