"""Models of NVIDIA's TensorRT Model Optimizer 0.47.0, the successor of pytorch-quantization.

Its layers hold `input_quantizer`, `weight_quantizer` and `output_quantizer`; each enabled one has the range `_amax`.
Its int8 grid has scale amax / 127 and the integers -128..127: its configurations leave `narrow_range` off, and a state
dict does not say. Block formats, compressed weights and SmoothQuant need more than a range and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from within.core.quantize.exchange import layout
from within.core.quantize.exchange.ranges import RangedState

_SMOOTHED = "quantise without SmoothQuant or AWQ, whose factors are no part of an int8 layer"
_BLOCKS = "quantise to int8 per tensor or per channel, and save before weights are compressed"
LAYOUT = layout.Layout(
    "Model Optimizer",
    "input_quantizer",
    "weight_quantizer",
    {"._pre_quant_scale": _SMOOTHED, "._bias_value": _BLOCKS, "._global_amax": _BLOCKS, "._scale": _BLOCKS},
)


def read(state: Mapping[str, Tensor]) -> RangedState:
    """Splits the state dict of a calibrated model into its parameters in floating point and its ranges.

    Raises:
        WithinError: when it holds no range, an impossible one, or what a range cannot say.
    """
    return layout.read(state, LAYOUT)


def write(state: RangedState) -> dict[str, Tensor]:
    """Returns the state dict that a model after `modelopt.torch.quantization.quantize` loads."""
    return layout.write(state, LAYOUT)


def load(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads a state dict strictly into a model after `modelopt.torch.quantization.quantize`, calibrated or not.

    Raises:
        WithinError: when the model and the state dict do not fit.
    """
    layout.load(model, state, LAYOUT)
