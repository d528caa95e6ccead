"""The MobileNetV2 of HAQ (Wang et al., CVPR 2019): cost table, published strategy, layers, and a sensitivity model.

The model is separable, S(l, b_w, b_a) = g_l e_w(l, b_w) + h_l e_a(b_a): e_w is the relative squared error of He-normal
weights of the layer's shape on a symmetric grid for each channel, e_a that of half-normal activations on an affine
grid, and the gains g, h are log-normal.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from tools.benchmarks.networks.real import core_data
from torch import Tensor

from within.core.quantize import Grid, optimal_scale
from within.core.quantize.codebook import arbitrary, binary, quantize_to_codebook
from within.core.quantize.cost_table import Bits, CostTable, read_cost_table
from within.core.quantize.grid import range_of, rounded, scales_of
from within.core.quantize.haq import LayerDescription

# The strategy for 60 % of the cost in the README of mit-han-lab/haq: (weight bits, activation bits) of 53 layers.
PUBLISHED = """
8,-1 7,7 5,6 4,6 5,6 5,7 5,6 7,4 4,6 4,6 7,7 5,6 4,6 7,3 5,7 4,7 7,3 5,7 4,7 7,7 4,7 4,7 6,4 6,7 4,7 7,4 6,7
5,7 7,4 6,7 5,7 7,4 6,7 6,7 6,4 5,7 6,7 6,4 5,7 6,7 7,7 4,7 7,7 7,7 4,7 7,7 7,7 4,7 7,7 7,7 4,7 7,7 8,8
"""


def haq_table() -> CostTable:
    """Returns HAQ's table; -1 is read at array index -2, as the published code does."""
    path = core_data() / "haq_mobilenetv2_batch16_cost_table.npy"
    return read_cost_table(path, unit="simulated cycles", untouched=-2)


def published_bits() -> list[Bits]:
    """Returns the published strategy, one (weight bits, activation bits) a layer."""
    pairs = (pair.split(",") for pair in PUBLISHED.split())
    return [(int(weight), int(activation)) for weight, activation in pairs]


def mobilenet_v2_layers() -> list[LayerDescription]:
    """Returns the 53 layers of MobileNetV2 at 224 (Sandler et al., CVPR 2018, table 2), with 1,000 classes."""
    layers = [LayerDescription(False, 3, 32, 2, 3, 3 * 32 * 9, 224**2)]
    inputs, size = 32, 112
    for expansion, outputs, repeats, first_stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for number in range(repeats):
            stride, hidden = first_stride if number == 0 else 1, inputs * expansion
            if expansion > 1:
                layers.append(LayerDescription(False, inputs, hidden, 1, 1, inputs * hidden, size**2))
            layers.append(LayerDescription(True, hidden, hidden, stride, 3, hidden * 9, size**2))
            size //= stride
            layers.append(LayerDescription(False, hidden, outputs, 1, 1, hidden * outputs, size**2))
            inputs = outputs
    layers.append(LayerDescription(False, 320, 1280, 1, 1, 320 * 1280, size**2))
    layers.append(LayerDescription(False, 1280, 1000, 0, 1, 1280 * 1000, 1280))
    return layers


def separable_model(table: CostTable, seed: int) -> NDArray[np.float64]:
    """Returns sensitivities of the shape of the table; the seed decides weights, activations and gains."""
    random = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    half_normal = torch.randn(20_000, generator=generator).abs()
    activations = [_relative(half_normal, _affine(half_normal, bits)) for bits in table.activation_bits]
    losses = np.zeros(table.cost.shape)
    for layer, description in enumerate(mobilenet_v2_layers()):
        fan_in = description.kernel_size**2 * (1 if description.depthwise else description.in_channels)
        weights = torch.randn(min(description.out_channels, 64), fan_in, generator=generator)
        errors = [_relative(weights, _symmetric(weights, bits)) for bits in table.weight_bits]
        losses[layer] = np.add.outer(
            math.exp(random.normal()) * np.asarray(errors), math.exp(random.normal()) * np.asarray(activations)
        )
    return losses


def _symmetric(weights: Tensor, bits: int) -> Tensor:
    """Weights on the grid of a channel; one bit is the best binary codebook."""
    if bits == 1:
        scale, _ = optimal_scale(weights, binary(), axis=0)
        return quantize_to_codebook(weights, scale, binary(), axis=0)
    grid = Grid(bits, axis=0)
    return rounded(weights, *scales_of(*range_of(weights, grid), grid), grid)


def _affine(x: Tensor, bits: int) -> Tensor:
    """Activations of at least 0 on an unsigned grid; one bit is 0 or the largest."""
    if bits == 1:
        return quantize_to_codebook(x, x.max(), arbitrary((0, 1)))
    grid = Grid(bits, symmetric=False, signed=False)
    return rounded(x, *scales_of(*range_of(x, grid), grid), grid)


def _relative(x: Tensor, quantised: Tensor) -> float:
    return float((x - quantised).square().sum() / x.square().sum())
