"""Quantised models of others, in and out: their state dicts as plain parameters and ranges, and back.

    pytorch_quantization   NVIDIA's pytorch-quantization 2.1.3
    modelopt               NVIDIA's TensorRT Model Optimizer 0.47.0

Each has `read(state_dict) -> RangedState`, `write(RangedState) -> state_dict` and `load(model, state_dict)`. Neither
imports the other library, so a state dict is read where that library is not installed.
"""

from within.core.quantize.exchange.ranges import LayerRanges, RangedState

__all__ = ["LayerRanges", "RangedState"]
