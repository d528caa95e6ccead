"""Accel-NASBench: MnasNet-like networks of seven blocks, each with an expansion, kernel, depth and squeeze-and-excite.

    conv3x3 3 -> 32, stride 2; blocks of 16, 24, 40, 80, 112, 192, 320 channels; conv1x1 -> 1280; average; linear

Ahmad et al.: Accel-NASBench: Sustainable Benchmarking for Accelerator-Aware NAS, DAC 2024. The first layer of a block
has its stride. Squeeze-and-excite has a quarter of the layer's input channels between its two convolutions.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from within.nas.spaces.layer_counts import Counts, convolution, inverted_residual, linear, strided
from within.nas.spaces.space import Architecture, Gene, Space

EXPANSIONS, KERNELS, DEPTHS = (1, 4, 6), (3, 5), (1, 2, 3, 4)
WIDTHS, STRIDES = (32, 16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 2, 1, 2, 1)
BLOCKS, LAST, GENES = 7, 1280, 4
DEEP = 5  # the one block that may have four layers


@dataclass(frozen=True)
class Layer:
    """One inverted residual: channels in, out and between, its kernel, the size that comes in, its stride."""

    inputs: int
    outputs: int
    middle: int
    kernel: int
    size: int
    stride: int
    squeezed: int


def layers(architecture: Architecture, size: int = 224) -> Iterator[Layer]:
    """Yields the layers between the first and the last convolution."""
    size = strided(size, 2)
    for block in range(BLOCKS):
        genes = tuple(architecture[GENES * block : GENES * (block + 1)])
        yield from _block(block, genes, size)
        size = strided(size, STRIDES[block])


def counts(architecture: Architecture, classes: int = 1000, size: int = 224) -> Counts:
    """Returns parameters and MACs.

    Arguments:
        architecture: of the network.
        classes: of the last layer.
        size: side of the picture.
    """
    found = convolution(3, WIDTHS[0], 3, strided(size, 2))
    for layer in layers(architecture, size):
        found += _layer_counts(layer)
    last = strided(layer.size, layer.stride)
    return found + convolution(WIDTHS[-1], LAST, 1, last) + linear(LAST, classes)


def parameters(architecture: Architecture, classes: int = 1000) -> int:
    """Returns the number of weights of the whole network, batch norms included."""
    return counts(architecture, classes).params


def macs(architecture: Architecture, classes: int = 1000, size: int = 224, *, official: bool = False) -> int:
    """Returns the multiply-accumulates of a picture.

    Arguments:
        architecture: of the network.
        classes: of the last layer.
        size: side of the picture.
        official: count four more for each number that leaves a batch norm, one for each that enters an average, and
            one for each average, as the published figures do.
    """
    found = counts(architecture, classes, size).macs
    if not official:
        return found
    normalised, averaged = WIDTHS[0] * strided(size, 2) ** 2, 0
    for layer in layers(architecture, size):
        last = strided(layer.size, layer.stride)
        normalised += (layer.middle + layer.outputs) * last**2
        normalised += layer.middle * layer.size**2 if layer.middle != layer.inputs else 0
        averaged += layer.middle * (last**2 + 1) if layer.squeezed else 0
    return found + 4 * (normalised + LAST * last**2) + averaged + LAST * (last**2 + 1)


@functools.cache
def _block(block: int, genes: Architecture, size: int) -> tuple[Layer, ...]:
    expansion, kernel, depth, squeeze = (
        int(gene.values[value]) for gene, value in zip(_genes(block), genes, strict=True)
    )
    found, inputs, stride = [], WIDTHS[block], STRIDES[block]
    for _ in range(depth):
        squeezed = inputs // 4 if squeeze else 0
        found.append(Layer(inputs, WIDTHS[block + 1], inputs * expansion, kernel, size, stride, squeezed))
        inputs, size, stride = WIDTHS[block + 1], strided(size, stride), 1
    return tuple(found)


@functools.cache
def _layer_counts(layer: Layer) -> Counts:
    return inverted_residual(
        layer.inputs, layer.outputs, layer.middle, layer.kernel, layer.size, layer.stride, layer.squeezed
    )


def _genes(block: int) -> tuple[Gene, ...]:
    depths = DEPTHS if block == DEEP else DEPTHS[:-1]
    names = ("expansion", "kernel", "depth", "squeeze_excite")
    choices = zip(names, (EXPANSIONS, KERNELS, depths, (0, 1)), strict=True)
    return tuple(Gene(f"block {block} {name}", values) for name, values in choices)


SPACE = Space("Accel-NASBench", tuple(gene for block in range(BLOCKS) for gene in _genes(block)))
