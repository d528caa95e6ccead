"""NAS-Bench-Macro: chains of eight blocks, each the identity or one of two inverted residuals; 6,561 in all.

    conv3x3 3 -> 32, BN, ReLU; 2 blocks at 64 channels, 3 at 128, 3 at 256; conv1x1 -> 1280, BN, ReLU; average; linear

Su et al.: Prioritized Architecture Sampling with Monto-Carlo Tree Search, CVPR 2021; the benchmark of its repository.
The first block of each stage doubles the channels and halves the picture; the identity is a 1 x 1 convolution with
stride 2 and a batch norm there.
"""

from __future__ import annotations

import functools

from within.core.errors import WithinError
from within.nas.spaces.layer_counts import Counts, convolution, inverted_residual, linear
from within.nas.spaces.space import Architecture, Gene, Space

OPERATIONS = ("identity", "mb3_conv3x3", "mb6_conv5x5")
IDENTITY = 0
SHAPES = {1: (3, 3), 2: (6, 5)}  # expansion, kernel
STAGES, STEM, LAST = (2, 3, 3), 32, 1280


def from_text(text: str) -> Architecture:
    """Returns the architecture of an official text of eight digits.

    Raises:
        WithinError: when it is no such text.
    """
    if len(text) != sum(STAGES) or any(digit not in "012" for digit in text):
        raise WithinError(f"{text!r} is no network of NAS-Bench-Macro", todo="give eight digits of 0, 1 and 2")
    return tuple(map(int, text))


def to_text(architecture: Architecture) -> str:
    """Returns the official text."""
    return "".join(map(str, architecture))


def canonical(architecture: Architecture) -> Architecture:
    """Returns the architecture with identities that keep the channels at the end of their stages."""
    found: list[int] = []
    for length in STAGES:
        first, *rest = architecture[len(found) : len(found) + length]
        found += [first, *sorted(rest, key=lambda op: op == IDENTITY)]
    return tuple(found)


def counts(architecture: Architecture, classes: int = 10, size: int = 32) -> Counts:
    """Returns parameters and MACs.

    Arguments:
        architecture: of the network.
        classes: of the last layer.
        size: side of the picture.
    """
    channels = STEM
    found = convolution(3, STEM, 3, size)
    operations = iter(architecture)
    for length in STAGES:
        for position in range(length):
            outputs, stride = (2 * channels, 2) if position == 0 else (channels, 1)
            found += _block(next(operations), channels, outputs, size, stride)
            channels, size = outputs, -(-size // stride)
    return found + convolution(channels, LAST, 1, size) + linear(LAST, classes)


def parameters(architecture: Architecture, classes: int = 10) -> int:
    """Returns the number of weights of the whole network, batch norms included."""
    return counts(architecture, classes).params


def macs(architecture: Architecture, classes: int = 10, size: int = 32) -> int:
    """Returns the multiply-accumulates of a picture, as the published figures count them."""
    return counts(architecture, classes, size).macs


@functools.cache
def _block(operation: int, inputs: int, outputs: int, size: int, stride: int) -> Counts:
    if operation == IDENTITY:
        return convolution(inputs, outputs, 1, size // stride) if inputs != outputs else Counts()
    expansion, kernel = SHAPES[operation]
    return inverted_residual(inputs, outputs, expansion * inputs, kernel, size, stride)


SPACE = Space(
    "NAS-Bench-Macro",
    tuple(Gene(f"block {number}", OPERATIONS) for number in range(sum(STAGES))),
    canonical=canonical,
)
