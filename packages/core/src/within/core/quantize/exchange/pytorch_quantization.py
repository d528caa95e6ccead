"""Models of NVIDIA's pytorch-quantization 2.1.3, which many published int8 networks were trained with.

Its layers hold `_input_quantizer` and `_weight_quantizer`; each has the range `_amax`. Its int8 grid has scale
amax / 127 and the integers -128..127: its descriptors leave `narrow_range` off, and a state dict does not say.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from within.core.quantize.exchange import layout
from within.core.quantize.exchange.ranges import RangedState

_LEARNED = "replace the learned clip by a fixed range: set learn_amax=False and calibrate"
LAYOUT = layout.Layout(
    "pytorch-quantization",
    "_input_quantizer",
    "_weight_quantizer",
    {"clip.clip_value_min": _LEARNED, "clip.clip_value_max": _LEARNED},
)


def read(state: Mapping[str, Tensor]) -> RangedState:
    """Splits the state dict of a calibrated model into its parameters in floating point and its ranges.

    Raises:
        WithinError: when it holds no range, an impossible one, or clips that were learned.
    """
    return layout.read(state, LAYOUT)


def write(state: RangedState) -> dict[str, Tensor]:
    """Returns the state dict that the library's own modules load (after calibration, or with `load`)."""
    return layout.write(state, LAYOUT)


def load(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads a state dict strictly into a model of the library's modules, calibrated or not, on any device.

    Raises:
        WithinError: when the model and the state dict do not fit.
    """
    layout.load(model, state, LAYOUT)
