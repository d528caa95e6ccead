"""The space of DARTS and NAS-Bench-301: a normal and a reduction cell, four nodes each, seven operations.

Liu et al.: DARTS, ICLR 2019; Zela et al.: Surrogate NAS Benchmarks (NAS-Bench-301), ICLR 2022. Each node adds
operations on two different earlier nodes; the output of a cell is the concatenation of its four nodes. The genes are
those of the normal cell, then those of the reduction cell: for each node operation, node, operation, node.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from within.core.errors import WithinError
from within.nas.spaces.cell_network import INPUTS, Cell, canonical_cell, network_counts, nodes_of
from within.nas.spaces.layer_counts import Counts
from within.nas.spaces.space import Architecture, Gene, Space

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NODES = 4
GENES = 4 * NODES  # of a cell
CONCATENATED = tuple(range(INPUTS, INPUTS + NODES))
PARTS = ("normal", "normal_concat", "reduce", "reduce_concat")


def from_text(text: str) -> Architecture:
    """Returns the architecture of Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=..., reduce=[...], ...).

    Raises:
        WithinError: when it is no such text, names another operation, or concatenates other nodes than all four.
    """
    todo = (
        "write Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[2, 3, 4, 5], reduce=..., reduce_concat=...)"
    )
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or call.args or tuple(each.arg for each in call.keywords) != PARTS:
            raise ValueError("normal, normal_concat, reduce and reduce_concat are expected")
        parts = [ast.literal_eval(_spelled_out(ast.unparse(each.value))) for each in call.keywords]
        edges = [[(str(name), int(before)) for name, before in part] for part in parts[::2]]
        nodes = [[int(node) for node in part] for part in parts[1::2]]
    except (SyntaxError, ValueError, TypeError) as error:
        raise WithinError(f"The text is no genotype: {error}", where=text[:80], todo=todo) from error
    if any(sorted(part) != list(CONCATENATED) for part in nodes):
        raise WithinError("A cell concatenates other nodes than 2, 3, 4 and 5", where=text[:80])
    unknown = sorted({name for part in edges for name, _ in part} - set(OPERATIONS))
    if unknown:
        raise WithinError(
            f"There is no operation {unknown[0]!r}", where=text[:80], todo=f"choose one of {', '.join(OPERATIONS)}"
        )
    return SPACE.check(
        [value for part in edges for name, before in part for value in (OPERATIONS.index(name), before)], text[:80]
    )


def to_text(architecture: Architecture) -> str:
    """Returns the text of the genotype."""
    normal, reduction = cells(architecture)
    parts = (normal.edges, normal.concatenated, reduction.edges, reduction.concatenated)
    return f"Genotype({', '.join(f'{name}={list(part)}' for name, part in zip(PARTS, parts, strict=True))})"


def cells(architecture: Architecture) -> tuple[Cell, Cell]:
    """Returns the normal and the reduction cell."""
    found = [
        Cell(tuple((OPERATIONS[op], before) for node in nodes_of(genes) for op, before in node), CONCATENATED)
        for genes in (architecture[:GENES], architecture[GENES:])
    ]
    return found[0], found[1]


def is_network(architecture: Architecture) -> bool:
    """Whether each node comes from two different ones."""
    return all(one != two for one, two in zip(architecture[1::4], architecture[3::4], strict=True))


def canonical(architecture: Architecture) -> Architecture:
    """Returns the first of the architectures that differ in the numbers of nodes and the order of edges alone."""
    return canonical_cell(architecture[:GENES]) + canonical_cell(architecture[GENES:])


def counts(
    architecture: Architecture,
    channels: int = 36,
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


def parameters(architecture: Architecture, channels: int = 36, layers: int = 20, classes: int = 10) -> int:
    """Returns the number of weights of the network without its second classifier, batch norms included."""
    return counts(architecture, channels, layers, classes).params


def macs(architecture: Architecture, channels: int = 36, layers: int = 20, classes: int = 10, size: int = 32) -> int:
    """Returns the multiply-accumulates of a picture, without the second classifier."""
    return counts(architecture, channels, layers, classes, size).macs


def node_genes(operations: Sequence[str], nodes: int, cell: str) -> tuple[Gene, ...]:
    """Returns the genes of a cell."""
    return tuple(
        gene
        for node in range(INPUTS, INPUTS + nodes)
        for edge in (0, 1)
        for gene in (
            Gene(f"{cell} node {node} operation {edge}", tuple(operations)),
            Gene(f"{cell} node {node} input {edge}", tuple(range(node))),
        )
    )


def _spelled_out(text: str) -> str:
    """Returns the text with range(2, 6) written as a list."""
    return re.sub(r"range\((\d), (\d)\)", lambda found: str(list(range(int(found[1]), int(found[2])))), text)


SPACE = Space(
    "DARTS",
    (*node_genes(OPERATIONS, NODES, "normal"), *node_genes(OPERATIONS, NODES, "reduction")),
    is_network=is_network,
    canonical=canonical,
)
