"""NAS-Bench-201: cells of four nodes with an operation on each of the six edges, 15,625 in all.

    conv3x3 3 -> 16, 5 cells at 16 channels, residual block to 32, 5 cells, residual block to 64, 5 cells, BN, ReLU,
    global average, linear

Dong and Yang: NAS-Bench-201, ICLR 2020. The six genes are in the order of the official text: edges into node 1, into
node 2, into node 3.
"""

from __future__ import annotations

import itertools
import re

from within.core.errors import WithinError
from within.nas.spaces.space import Architecture, Gene, Space

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NONE, SKIP, CONVOLUTION_1, CONVOLUTION_3, POOL = range(5)
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # from, to
NODES = 4
CELLS, WIDTHS, SIZES = 5, (16, 32, 64), (32, 16, 8)
KERNELS = {CONVOLUTION_1: 1, CONVOLUTION_3: 3}


def from_text(text: str) -> Architecture:
    """Returns the architecture of an official text: |nor_conv_3x3~0|+|none~0|skip_connect~1|+|...~0|...~1|...~2|.

    Raises:
        WithinError: when it is no such text.
    """
    found = re.findall(r"([a-z0-9_]+)~(\d)", text)
    expected = [str(before) for before, _ in EDGES]
    if [before for _, before in found] != expected or any(name not in OPERATIONS for name, _ in found):
        raise WithinError(
            f"{text!r} is no cell of NAS-Bench-201", todo=f"name operations of {', '.join(OPERATIONS)} for six edges"
        )
    return tuple(OPERATIONS.index(name) for name, _ in found)


def to_text(architecture: Architecture) -> str:
    """Returns the official text."""
    names = [f"{OPERATIONS[op]}~{before}" for op, (before, _) in zip(architecture, EDGES, strict=True)]
    return "+".join(f"|{'|'.join(names[low:high])}|" for low, high in ((0, 1), (1, 3), (3, 6)))


def live(architecture: Architecture) -> Architecture:
    """Returns the architecture with `none` for every operation that is on no path from the input to the output."""
    reached, leading = {0}, {NODES - 1}
    for (before, after), op in zip(EDGES, architecture, strict=True):
        if op != NONE and before in reached:
            reached.add(after)
    for (before, after), op in sorted(zip(EDGES, architecture, strict=True), key=lambda each: -each[0][1]):
        if op != NONE and after in leading:
            leading.add(before)
    on = reached & leading
    return tuple(
        op if before in on and after in on else NONE for (before, after), op in zip(EDGES, architecture, strict=True)
    )


def canonical(architecture: Architecture) -> Architecture:
    """Returns the least of the architectures that differ in dead operations or the numbers of the inner nodes alone."""
    found = live(architecture)
    into_1, into_2, between, out, from_1, from_2 = found
    return found if between != NONE else min(found, (into_2, into_1, between, out, from_2, from_1))


def function_text(architecture: Architecture) -> str:
    """Returns a text that is equal for cells of the same function where skip is taken for the identity; 6,466 differ.

    The official notion of isomorphism: sums are sorted, nothing comes out of nothing, and how often nothing is added
    counts.
    """
    nodes = ["0"]
    for node in range(1, NODES):
        terms = []
        for op, (before, after) in zip(architecture, EDGES, strict=True):
            if after == node:
                dead = op == NONE or nodes[before] == "#"
                terms.append("#" if dead else nodes[before] if op == SKIP else f"({nodes[before]})@{op}")
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def parameters(architecture: Architecture, classes: int = 10) -> int:
    """Returns the number of weights of the whole network, batch norms included."""
    total = 27 * WIDTHS[0] + 2 * WIDTHS[0]
    for width in WIDTHS:
        total += CELLS * sum(KERNELS[op] ** 2 * width**2 + 2 * width for op in architecture if op in KERNELS)
    for before, after in itertools.pairwise(WIDTHS):
        total += 9 * before * after + 9 * after**2 + before * after + 4 * after
    return total + 2 * WIDTHS[-1] + WIDTHS[-1] * classes + classes


def macs(architecture: Architecture, classes: int = 10, *, official: bool = False) -> int:
    """Returns the multiply-accumulates of a picture of 32 x 32 pixels.

    Arguments:
        architecture: of the cell.
        classes: of the last layer.
        official: count the biases of the last layer as well, as the published figures do.
    """
    total = 27 * WIDTHS[0] * SIZES[0] ** 2
    for width, size in zip(WIDTHS, SIZES, strict=True):
        total += CELLS * sum(KERNELS[op] ** 2 * width**2 * size**2 for op in architecture if op in KERNELS)
    for before, after, size in zip(WIDTHS[:-1], WIDTHS[1:], SIZES[1:], strict=True):
        total += (9 * before * after + 9 * after**2 + before * after) * size**2
    return total + WIDTHS[-1] * classes + (classes if official else 0)


SPACE = Space(
    "NAS-Bench-201", tuple(Gene(f"{before} to {after}", OPERATIONS) for before, after in EDGES), canonical=canonical
)
