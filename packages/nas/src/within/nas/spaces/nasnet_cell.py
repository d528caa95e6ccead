"""The NASNet-like space of LaNAS: one cell of seven nodes for the whole network, four operations.

Wang et al.: Sample-Efficient Neural Architecture Search by Learning Actions for Monte Carlo Tree Search, TPAMI 2021.
Each node adds operations on two earlier nodes, or two on the same one. The output of a cell is the concatenation of
all nodes that no other uses, so none is dead; in normal cells that may be one of the two cells before as well. The
genes are, for each node, operation, node, operation, node.
"""

from __future__ import annotations

from within.nas.spaces.cell_network import INPUTS, Cell, canonical_cell, network_counts, nodes_of
from within.nas.spaces.darts import node_genes
from within.nas.spaces.layer_counts import Counts
from within.nas.spaces.space import Architecture, Space

OPERATIONS = ("sep_conv_3x3", "max_pool_3x3", "skip_connect", "sep_conv_5x5")
NODES = 7


def cells(architecture: Architecture) -> tuple[Cell, Cell]:
    """Returns the normal and the reduction cell, which differ in what they concatenate alone."""
    edges = tuple((OPERATIONS[op], before) for node in nodes_of(architecture) for op, before in node)
    used = {before for _, before in edges}
    loose = tuple(node for node in range(INPUTS + NODES) if node not in used)
    return Cell(edges, loose), Cell(edges, tuple(node for node in loose if node >= INPUTS))


def counts(
    architecture: Architecture,
    channels: int = 32,
    layers: int = 20,
    classes: int = 10,
    size: int = 32,
    *,
    auxiliary: bool = False,
) -> Counts:
    """Returns parameters and MACs of the CIFAR network; see `cell_network.network_counts`."""
    normal, reduction = cells(architecture)
    return network_counts(
        normal, reduction, channels=channels, layers=layers, classes=classes, size=size, auxiliary=auxiliary
    )


def parameters(architecture: Architecture, channels: int = 32, layers: int = 20, classes: int = 10) -> int:
    """Returns the number of weights of the network without its second classifier, batch norms included."""
    return counts(architecture, channels, layers, classes).params


def macs(architecture: Architecture, channels: int = 32, layers: int = 20, classes: int = 10, size: int = 32) -> int:
    """Returns the multiply-accumulates of a picture, without the second classifier."""
    return counts(architecture, channels, layers, classes, size).macs


def canonical(architecture: Architecture) -> Architecture:
    """Returns the first of the architectures that differ in the numbers of nodes and the order of edges alone."""
    return canonical_cell(architecture)


SPACE = Space("NASNet cell", node_genes(OPERATIONS, NODES, "cell"), canonical=canonical)
