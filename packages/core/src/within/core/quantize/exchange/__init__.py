"""Quantised models of others, in and out: their state dicts as plain parameters and ranges, and back.

    pytorch_quantization   NVIDIA's pytorch-quantization 2.1.3
    modelopt               NVIDIA's TensorRT Model Optimizer 0.47.0

`quantized_from(model, inputs, read(state_dict))` makes a quantised model of ours from either, which exports and deploys
like any other; `write(ranges_of(module))` is the way back.

Each has `read(state_dict) -> RangedState`, `write(RangedState) -> state_dict` and `load(model, state_dict)`. Neither
imports the other library, so a state dict is read where that library is not installed.
"""

from within.core.quantize.exchange.ranged_model import quantized_from, ranges_of
from within.core.quantize.exchange.ranges import LayerRanges, RangedState

__all__ = ["LayerRanges", "RangedState", "quantized_from", "ranges_of"]
