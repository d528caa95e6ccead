"""The MobileNetV3 space of Once-for-All: five units of two to four blocks, kernels, expansions and the picture's size.

    conv3x3 3 -> 16, stride 2; block of expansion 1; units of 24, 40, 80, 112, 160 channels; conv1x1 -> 960; average;
    1 x 1 -> 1280; linear

Cai et al.: Once-for-All, ICLR 2020. The genes are 20 kernels, 20 expansions, four for each unit, 5 depths and a
resolution; those of blocks beyond the depth of their unit do not matter. Channels are multiples of 8, at every width.
"""

from __future__ import annotations

import functools

from within.nas.spaces.layer_counts import Counts, convolution, divisible, inverted_residual, linear, strided
from within.nas.spaces.space import Architecture, Gene, Space

KERNELS, EXPANSIONS, DEPTHS = (3, 5, 7), (3, 4, 6), (2, 3, 4)
RESOLUTIONS = tuple(range(128, 225, 4))
UNITS, BLOCKS = 5, 4
PLACES = UNITS * BLOCKS
STEM, WIDTHS, LAST = 16, (16, 24, 40, 80, 112, 160), (960, 1280)
STRIDES, SQUEEZES = (2, 2, 2, 1, 2), (False, True, False, True, True)


def uniform(kernel: int, expansion: int, depth: int, resolution: int = 224) -> Architecture:
    """Returns the architecture of one kernel, one expansion and one depth."""
    return (
        *[KERNELS.index(kernel)] * PLACES,
        *[EXPANSIONS.index(expansion)] * PLACES,
        *[DEPTHS.index(depth)] * UNITS,
        RESOLUTIONS.index(resolution),
    )


def depths(architecture: Architecture) -> tuple[int, ...]:
    """Returns the number of blocks of each unit."""
    return tuple(DEPTHS[value] for value in architecture[2 * PLACES : 2 * PLACES + UNITS])


def canonical(architecture: Architecture) -> Architecture:
    """Returns the architecture with the first value for every gene of a block that is not there."""
    there = [block < depth for depth in depths(architecture) for block in range(BLOCKS)]
    shapes = (value if shown else 0 for value, shown in zip(architecture[: 2 * PLACES], there * 2, strict=True))
    return (*shapes, *architecture[2 * PLACES :])


def counts(architecture: Architecture, width: float = 1.0, classes: int = 1000) -> Counts:
    """Returns parameters and MACs of the network alone, cut out of the super-network.

    Arguments:
        architecture: of the network.
        width: that all channels are multiplied by.
        classes: of the last layer.
    """
    channels = [divisible(each * width) for each in WIDTHS]
    stem, last, features = (divisible(each * width) for each in (STEM, *LAST))
    size = strided(RESOLUTIONS[architecture[-1]], 2)
    found = convolution(3, stem, 3, size) + inverted_residual(stem, channels[0], stem, 3, size)
    inputs = channels[0]
    for unit, depth in enumerate(depths(architecture)):
        for block in range(depth):
            place, stride = BLOCKS * unit + block, STRIDES[unit] if block == 0 else 1
            kernel, expansion = KERNELS[architecture[place]], EXPANSIONS[architecture[PLACES + place]]
            found += _block(inputs, channels[unit + 1], expansion, kernel, size, stride, SQUEEZES[unit])
            inputs, size = channels[unit + 1], strided(size, stride)
    return (
        found
        + convolution(inputs, last, 1, size)
        + convolution(last, features, 1, 1, norm=False)
        + linear(features, classes)
    )


def parameters(architecture: Architecture, width: float = 1.0, classes: int = 1000) -> int:
    """Returns the number of weights of the network alone, batch norms included."""
    return counts(architecture, width, classes).params


def macs(architecture: Architecture, width: float = 1.0, classes: int = 1000) -> int:
    """Returns the multiply-accumulates of a picture of the architecture's resolution."""
    return counts(architecture, width, classes).macs


def supernetwork_parameters(width: float = 1.0, classes: int = 1000) -> int:
    """Returns the number of weights of the super-network: the largest network and, in each block, two matrices.

    They make 5 x 5 kernels of 7 x 7 ones, and 3 x 3 kernels of 5 x 5 ones.
    """
    largest = uniform(max(KERNELS), max(EXPANSIONS), max(DEPTHS))
    return parameters(largest, width, classes) + PLACES * sum(kernel**4 for kernel in KERNELS[:-1])


@functools.cache
def _block(inputs: int, outputs: int, expansion: int, kernel: int, size: int, stride: int, squeeze: bool) -> Counts:
    middle = divisible(inputs * expansion)
    squeezed = divisible(middle // 4) if squeeze else 0
    return inverted_residual(inputs, outputs, middle, kernel, size, stride, squeezed)


SPACE = Space(
    "MobileNetV3",
    (
        *(Gene(f"kernel {place}", KERNELS) for place in range(PLACES)),
        *(Gene(f"expansion {place}", EXPANSIONS) for place in range(PLACES)),
        *(Gene(f"depth {unit}", DEPTHS) for unit in range(UNITS)),
        Gene("resolution", RESOLUTIONS),
    ),
    canonical=canonical,
)
