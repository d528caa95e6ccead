"""Models of NVIDIA's pytorch-quantization 2.1.3, which many published int8 networks were trained with.

Its layers hold `_input_quantizer` and `_weight_quantizer`; each has the range `_amax`. Its int8 grid has scale
amax / 127 and the integers -128..127: its descriptors leave `narrow_range` off, and a state dict does not say.
"""

from __future__ import annotations

from within.core.quantize.exchange.layout import Layout

_LEARNED = "replace the learned clip by a fixed range: set learn_amax=False and calibrate"
LAYOUT = Layout(
    "pytorch-quantization",
    "_input_quantizer",
    "_weight_quantizer",
    {"clip.clip_value_min": _LEARNED, "clip.clip_value_max": _LEARNED},
)
read, write, load = LAYOUT.read, LAYOUT.write, LAYOUT.load
