"""Networks of normal and reduction cells, whose nodes add two operations on earlier nodes: NASNet, DARTS and the like.

    conv3x3 3 -> 3 C, BN; cells at C channels, a reduction cell, cells at 2 C, a reduction cell, cells at 4 C; average;
    linear

Liu et al.: DARTS, ICLR 2019, CIFAR networks. Nodes 0 and 1 are the outputs of the two cells before, brought to the
cell's channels by ReLU, a 1 x 1 convolution and BN; the next ones are the cell's own. The output is the concatenation
of some nodes. A cell's genes are, for each of its own nodes, operation, node, operation, node.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from within.nas.spaces.layer_counts import Counts, convolution, linear, strided
from within.nas.spaces.space import Architecture

Edge = tuple[int, int]  # operation, node it comes from
Node = tuple[Edge, Edge]
INPUTS = 2
SEPARABLE = {"sep_conv_3x3": 3, "sep_conv_5x5": 5, "sep_conv_7x7": 7}  # two depthwise separable convolutions
DILATED = {"dil_conv_3x3": 3, "dil_conv_5x5": 5}  # one, with holes


@dataclass(frozen=True)
class Cell:
    """What a cell does.

    Attributes:
        edges: names of operations and the nodes that they come from, two for each of the cell's own nodes.
        concatenated: nodes of the output.
    """

    edges: tuple[tuple[str, int], ...]
    concatenated: tuple[int, ...]


def nodes_of(genes: Sequence[int]) -> tuple[Node, ...]:
    """Returns the nodes of a cell's genes."""
    return tuple(((a, b), (c, d)) for a, b, c, d in zip(*(genes[at::4] for at in range(4)), strict=True))


def genes_of(nodes: Sequence[Node]) -> Architecture:
    """Returns the genes of a cell's nodes."""
    return tuple(value for node in nodes for edge in node for value in edge)


def canonical_cell(genes: Sequence[int]) -> Architecture:
    """Returns the genes that come first among those that differ in the numbers of nodes and in the order of edges."""
    nodes = nodes_of(genes)
    best = min(_orders(nodes, (), {0: 0, 1: 1}))
    return tuple(value for node in best for before, operation in node for value in (operation, before))


def _orders(
    nodes: tuple[Node, ...], done: tuple[tuple[Edge, ...], ...], numbers: dict[int, int]
) -> Iterator[tuple[tuple[Edge, ...], ...]]:
    """Yields orders of the nodes that begin with what comes first; several only where equal nodes go to others."""
    if len(done) == len(nodes):
        yield done
        return
    ready = [
        (tuple(sorted((numbers[before], operation) for operation, before in nodes[number - INPUTS])), number)
        for number in range(INPUTS, len(nodes) + INPUTS)
        if number not in numbers and all(before in numbers for _, before in nodes[number - INPUTS])
    ]
    first = min(ready)[0]
    tried = set()
    for edges, number in ready:
        if edges == first and (users := _users(nodes, number)) not in tried:
            tried.add(users)
            yield from _orders(nodes, (*done, first), {**numbers, number: len(done) + INPUTS})


def _users(nodes: tuple[Node, ...], number: int) -> tuple[tuple[int, int], ...]:
    """Returns the nodes that a node goes to, and by which operations."""
    return tuple(
        sorted((to, operation) for to, edges in enumerate(nodes) for operation, before in edges if before == number)
    )


def network_counts(
    normal: Cell,
    reduction: Cell,
    *,
    channels: int,
    layers: int,
    classes: int = 10,
    size: int = 32,
    auxiliary: bool = False,
) -> Counts:
    """Returns parameters and MACs of the whole network.

    Arguments:
        normal, reduction: the two cells.
        channels: of the first cells.
        layers: cells in all; those at a third and two thirds are reduction cells.
        classes: of the last layer.
        size: side of the picture.
        auxiliary: with the second classifier, which is there in training alone.
    """
    found = convolution(3, 3 * channels, 3, size)
    before, last = 3 * channels, 3 * channels
    for layer in range(layers):
        reduces = layer in (layers // 3, 2 * layers // 3)
        cell = reduction if reduces else normal
        channels *= 2 if reduces else 1
        found += convolution(before, channels, 1, size) + convolution(last, channels, 1, size)
        found += cell_counts(cell.edges, channels, size, reduces)
        before, last = last, len(cell.concatenated) * channels
        size = strided(size, 2) if reduces else size
        if auxiliary and layer == 2 * layers // 3:
            found += auxiliary_counts(last, classes, size)
    return found + linear(last, classes)


def auxiliary_counts(channels: int, classes: int, size: int) -> Counts:
    """Returns the counts of the second classifier: average 5 x 5 of stride 3, conv1x1, conv2x2, linear."""
    size = (size - 5) // 3 + 1
    return (
        convolution(channels, 128, 1, size)
        + convolution(128, 768, 2, size - 1)
        + linear(768 * (size - 1) ** 2, classes)
    )


@functools.lru_cache(maxsize=65_536)
def cell_counts(edges: tuple[tuple[str, int], ...], channels: int, size: int, reduces: bool) -> Counts:
    """Returns the counts of a cell's operations.

    Arguments:
        edges: names of operations and the nodes that they come from.
        channels: of the cell.
        size: side of what comes in.
        reduces: operations on nodes 0 and 1 have stride 2.
    """
    found = Counts()
    after = strided(size, 2) if reduces else size
    for name, before in edges:
        halved = reduces and before < INPUTS
        pointwise = convolution(channels, channels, 1, after)
        if name in SEPARABLE:
            depthwise = convolution(channels, channels, SEPARABLE[name], after, groups=channels, norm=False)
            found += (depthwise + pointwise) * 2
        elif name in DILATED:
            found += convolution(channels, channels, DILATED[name], after, groups=channels, norm=False) + pointwise
        elif name == "skip_connect" and halved:
            found += pointwise  # two convolutions of half the channels each
    return found
