"""TransNAS-Bench-101, micro: cells of four nodes with an operation on each of the six edges, 4,096 in all.

    conv3x3 3 -> 32, conv3x3 32 -> 64, both of stride 2; 5 modules of 2 cells at 128, 128, 256, 256, 512 channels;
    average; linear

Duan et al.: TransNAS-Bench-101, CVPR 2021. Cells as in NAS-Bench-201, without pooling. The first cell of every other
module doubles the channels and halves the picture: on the edges from its input, skip is two 1 x 1 convolutions of half
the channels each, and a batch norm.
"""

from __future__ import annotations

import functools
import re

from within.core.errors import WithinError
from within.nas.spaces import nasbench201
from within.nas.spaces.layer_counts import Counts, convolution, linear
from within.nas.spaces.space import Architecture, Gene, Space

OPERATIONS = nasbench201.OPERATIONS[:4]
NONE, SKIP = nasbench201.NONE, nasbench201.SKIP
EDGES = nasbench201.EDGES
BASE, MODULES, CELLS = 64, (2, 1, 2, 1, 2), 2  # how often a module multiplies the channels
SCENES = 63


def from_text(text: str) -> Architecture:
    """Returns the architecture of an official text, 64-41414-1_02_333, or of six numbers, (1, 0, 2, 3, 3, 3).

    Raises:
        WithinError: when it is neither.
    """
    found = re.fullmatch(rf"{BASE}-41414-(\d)_(\d\d)_(\d\d\d)|\((\d), (\d), (\d), (\d), (\d), (\d)\)", text)
    digits = "".join(part for part in found.groups() if part) if found else ""
    if not digits or any(int(digit) >= len(OPERATIONS) for digit in digits):
        raise WithinError(
            f"{text!r} is no cell of TransNAS-Bench-101", todo="write it as 64-41414-1_02_333, numbers from 0 to 3"
        )
    return tuple(map(int, digits))


def to_text(architecture: Architecture) -> str:
    """Returns the official text."""
    digits = "".join(map(str, architecture))
    return f"{BASE}-41414-{digits[0]}_{digits[1:3]}_{digits[3:]}"


def counts(architecture: Architecture, classes: int = SCENES, size: int = 256) -> Counts:
    """Returns parameters and MACs.

    Arguments:
        architecture: of the cell.
        classes: of the last layer; 63 kinds of scenes.
        size: side of the picture.
    """
    found = convolution(3, BASE // 2, 3, size // 2) + convolution(BASE // 2, BASE, 3, size // 4)
    channels, size = BASE, size // 4
    for times in MODULES:
        size //= times
        found += _cell(architecture, channels, channels * times, size)
        channels *= times
        found += _cell(architecture, channels, channels, size) * (CELLS - 1)
    return found + linear(channels, classes)


def parameters(architecture: Architecture, classes: int = SCENES) -> int:
    """Returns the number of weights of the whole network, batch norms included."""
    return counts(architecture, classes).params


def macs(architecture: Architecture, classes: int = SCENES, size: int = 256) -> int:
    """Returns the multiply-accumulates of a picture; the published figures count activations and norms as well."""
    return counts(architecture, classes, size).macs


@functools.lru_cache(maxsize=65_536)
def _cell(architecture: Architecture, inputs: int, outputs: int, size: int) -> Counts:
    found = Counts()
    for (before, _), operation in zip(EDGES, architecture, strict=True):
        first = inputs if before == 0 else outputs
        if operation in nasbench201.KERNELS:
            found += convolution(first, outputs, nasbench201.KERNELS[operation], size)
        elif operation == SKIP and first != outputs:
            found += convolution(first, outputs, 1, size)
    return found


SPACE = Space(
    "TransNAS-Bench-101 micro",
    tuple(Gene(f"{before} to {after}", OPERATIONS) for before, after in EDGES),
    canonical=nasbench201.canonical,
)
