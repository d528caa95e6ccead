"""Fewer bits: grids, optimal scales, calibration, quantisation after and in training, mixed precision."""

from within.core.quantize.codebook import Codebook
from within.core.quantize.export import QuantizedOnnx, export_quantized
from within.core.quantize.grid import Grid
from within.core.quantize.optimal_scale import optimal_scale
from within.core.quantize.quantize import QuantizationResult, QuantizationSettings, quantize

__all__ = [
    "Codebook", "Grid", "QuantizationResult", "QuantizationSettings", "QuantizedOnnx", "export_quantized",
    "optimal_scale", "quantize",
]  # fmt: skip
