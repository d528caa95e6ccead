"""Post-training quantisation: fold batch normalisation, choose where, find the ranges, correct what rounding shifted.

What comes out computes in floating point on the grids that integers will use (simulated quantisation); it trains on
(quantisation-aware training), and exports to ONNX with quantise-dequantise pairs (see `device.quantized_export`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import fx, nn

from within.core.errors import WithinError
from within.core.plan import Plan, Step, input_specs
from within.core.quantize.bias import round_biases
from within.core.quantize.calibrate import WeightRange, calibrate_activations, calibrate_weights
from within.core.quantize.correction import Correction, correct
from within.core.quantize.insert import Learned, Quantized, Target, insert_quantizers
from within.core.quantize.placement import LeftInFloat

FUNCTION = "within.core.quantize.insert:insert"


@dataclass(frozen=True)
class QuantizationSettings:
    """How a model is quantised.

    Attributes:
        weight_bits, activation_bits: 2 to 8; None leaves them in floating point.
        target: `cpu` (unsigned activations with a zero point) or `tensorrt` (signed, symmetric).
        calibrator, calibrator_options: how ranges of activations are found; see `quantize.calibrators`.
        weight_range: "max", or "optimal" for the scale of least squared error.
        correction: "none", "means" (bias correction) or "moments" (re-estimation of batch normalisation, folded).
        bits: other bits for some layers, (weight, input activation), by layer path.
        weight_group_size, per_channel: which weights share a scale.
        keep_float: layers that stay in floating point, by path or pattern.
        join: quantise additions and concatenations too.
        learned: in training, learn the scales ("step": LSQ) or upper ends ("clip": PACT).
    """

    weight_bits: int | None = 8
    activation_bits: int | None = 8
    target: Target = "cpu"
    calibrator: str = "max"
    calibrator_options: Mapping[str, Any] = field(default_factory=dict)
    weight_range: WeightRange = "max"
    correction: Correction = "means"
    bits: Mapping[str, Sequence[int]] = field(default_factory=dict)
    weight_group_size: int | None = None
    per_channel: bool = True
    keep_float: Sequence[str] = ()
    join: bool = True
    learned: Learned = "none"

    def __post_init__(self) -> None:
        pairs = self.bits.values() if isinstance(self.bits, Mapping) else [None]
        if not all(isinstance(pair, Sequence) and len(pair) == 2 for pair in pairs):
            raise WithinError(
                "The bits of single layers are not pairs by layer",
                where="bits",
                todo='write bits={"layer1.conv1": (4, 8)}: bits of the weight and of the input',
            )
        if isinstance(self.keep_float, str):
            raise WithinError("keep_float is a list of layers", where="keep_float", todo=f"write [{self.keep_float!r}]")


@dataclass(frozen=True)
class QuantizationResult:
    """A quantised model.

    Attributes:
        model: computes on the grids; a plain graph module with quantisers.
        plan: what was done; with the weights it rebuilds the model.
        left: operators that stay in floating point, and why.
        quantized: the model with where its quantisers are.
        settings: as given.
    """

    model: fx.GraphModule
    plan: Plan
    left: tuple[LeftInFloat, ...]
    quantized: Quantized = field(repr=False)
    settings: QuantizationSettings = field(default_factory=QuantizationSettings)

    def metrics(self) -> dict[str, Any]:
        """Returns settings, counts and what was left in floating point, as JSON values."""
        return {
            "quantization": asdict(self.settings),
            "weight_quantizers": len(self.quantized.weights),
            "activation_quantizers": len(self.quantized.activations),
            "left_in_float": [asdict(item) for item in self.left],
        }


def quantize(
    model: nn.Module,
    inputs: Sequence[Any],
    calibration: Iterable[Any] = (),
    settings: QuantizationSettings | Mapping[str, Any] | None = None,
    *,
    plan: Plan | None = None,
) -> QuantizationResult:
    """Quantises a trained model.

    Arguments:
        model: in floating point; not modified.
        inputs: example inputs.
        calibration: batches of real inputs, tensors or tuples of tensors.
        settings: see `QuantizationSettings`.
        plan: the plan that made `model`, when it is not the network as built.

    Raises:
        WithinError: when calibration is missing or holds NaN, the model cannot be traced, or a setting is unknown.
    """
    if not isinstance(settings, QuantizationSettings):
        settings = QuantizationSettings(**(settings or {}))
    arguments = step_arguments(settings)
    quantized = insert_quantizers(model, inputs, **arguments)
    batches = list(calibration)
    calibrate_weights(quantized, settings.weight_range)
    if settings.activation_bits is not None:
        calibrate_activations(quantized, batches, calibrator=settings.calibrator, options=settings.calibrator_options)
    if batches:
        correct(quantized, batches, settings.correction)
    round_biases(quantized.module)
    base = plan or Plan(type(model).__name__, input_specs(inputs))
    provenance = dict(base.provenance) | {"torch": torch.__version__}
    step = Step(FUNCTION, arguments | {"biases": bool(batches) and settings.correction != "none"})
    full = Plan(base.model, base.inputs, (*base.steps, step), provenance)
    return QuantizationResult(quantized.module, full, quantized.placement.left, quantized, settings)


def step_arguments(settings: QuantizationSettings) -> dict[str, Any]:
    """Returns the arguments of `insert_quantizers`, as JSON values."""
    return {
        "target": settings.target,
        "weight_bits": settings.weight_bits,
        "activation_bits": settings.activation_bits,
        "bits": {name: list(pair) for name, pair in settings.bits.items()},
        "weight_group_size": settings.weight_group_size,
        "per_channel": settings.per_channel,
        "keep_float": list(settings.keep_float),
        "join": settings.join,
        "learned": settings.learned,
    }
