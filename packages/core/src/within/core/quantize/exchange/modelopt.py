"""Models of NVIDIA's TensorRT Model Optimizer 0.47.0, the successor of pytorch-quantization.

Its layers hold `input_quantizer`, `weight_quantizer` and `output_quantizer`; each enabled one has the range `_amax`.
Its int8 grid has scale amax / 127 and the integers -128..127: its configurations leave `narrow_range` off, and a state
dict does not say. Block formats, compressed weights and SmoothQuant need more than a range and are refused.
"""

from __future__ import annotations

from within.core.quantize.exchange.layout import Layout

_SMOOTHED = "quantise without SmoothQuant or AWQ, whose factors are no part of an int8 layer"
_BLOCKS = "quantise to int8 per tensor or per channel, and save before weights are compressed"
LAYOUT = Layout(
    "Model Optimizer",
    "input_quantizer",
    "weight_quantizer",
    {"._pre_quant_scale": _SMOOTHED, "._bias_value": _BLOCKS, "._global_amax": _BLOCKS, "._scale": _BLOCKS},
)
read, write, load = LAYOUT.read, LAYOUT.write, LAYOUT.load
