"""DARTS and the NASNet cell: genotypes, equal cells, and counts against networks that are built and traced."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core import Macs, Params, trace
from within.core.errors import WithinError
from within.nas.networks.cell_network import CellNetwork
from within.nas.spaces import darts, nasnet_cell
from within.nas.spaces.cell_network import genes_of, nodes_of
from within.nas.tables import nasnet_cell_table

SECOND_ORDER = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
SEEDS = st.integers(0, 1_000_000)


def cell_of(nodes, operations, seed):
    """Returns nodes that come from earlier ones, few operations, so that equal nodes are frequent."""
    generator = np.random.default_rng(seed)
    return tuple(
        tuple((int(generator.integers(operations)), int(generator.integers(node))) for _ in range(2))
        for node in range(2, nodes + 2)
    )


def renumbered(nodes, order):
    """Returns the nodes in an order, or None when one would come before what it needs."""
    place = {0: 0, 1: 1, **{node + 2: at + 2 for at, node in enumerate(order)}}
    found = tuple(tuple((op, place[before]) for op, before in nodes[node]) for node in order)
    return found if all(before < at for at, node in enumerate(found, start=2) for _, before in node) else None


def function_of(nodes):
    """Returns the nodes that no other uses as texts of what they compute, and how often each node is used."""
    texts, used = ["a", "b"], {before for node in nodes for _, before in node}
    for node in nodes:
        texts.append("(" + "+".join(sorted(f"{op}{texts[before]}" for op, before in node)) + ")")
    return Counter(text for number, text in enumerate(texts) if number not in used), Counter(texts)


def test_the_published_network():
    """3.3 M weights and 528 M multiply-accumulates, of the network and of the one that is built."""
    found = darts.from_text(SECOND_ORDER)
    assert darts.parameters(found) == 3_349_342
    assert darts.macs(found) == 528_359_040
    network = CellNetwork(*darts.cells(found), auxiliary=True)
    assert sum(each.numel() for each in network.parameters()) == darts.counts(found, auxiliary=True).params
    network.auxiliary = None
    assert sum(each.numel() for each in network.parameters()) == 3_349_342
    assert darts.to_text(found) == SECOND_ORDER
    assert darts.from_text(SECOND_ORDER.replace("[2, 3, 4, 5]", "range(2, 6)")) == found


@pytest.mark.parametrize("space", [darts, nasnet_cell])
def test_counts_are_those_of_a_traced_network(space):
    generator = np.random.default_rng(0)
    for layers, channels in ((3, 6), (4, 4)):
        found = space.SPACE.random(generator)
        network = CellNetwork(*space.cells(found), channels=channels, layers=layers, classes=7)
        graph = trace(network, (torch.zeros(1, 3, 32, 32),))
        counts = space.counts(found, channels, layers, 7)
        assert (Params()(graph), Macs()(graph)) == (counts.params, counts.macs)


@pytest.mark.parametrize("turn", [0, 1])
def test_counts_of_each_operation_of_a_traced_network(turn):
    """All seven operations on the two inputs, with stride 2 in reduction cells."""
    cell = genes_of([((node, turn), ((node + 4) % 7, 1 - turn)) for node in range(darts.NODES)])
    found = darts.SPACE.check(cell + cell)
    graph = trace(CellNetwork(*darts.cells(found), channels=4, layers=3), (torch.zeros(1, 3, 16, 16),))
    counts = darts.counts(found, 4, 3, size=16)
    assert (Params()(graph), Macs()(graph)) == (counts.params, counts.macs)


def test_the_second_classifier_is_there_in_training_alone():
    found = darts.SPACE.random(np.random.default_rng(0))
    network = CellNetwork(*darts.cells(found), channels=4, layers=6, auxiliary=True)
    pictures = torch.zeros(2, 3, 32, 32)
    logits, second = network(pictures)
    assert logits.shape == second.shape == (2, 10)
    assert network.eval()(pictures).shape == (2, 10)
    counts = darts.counts(found, 4, 6, auxiliary=True)
    graph = trace(network.auxiliary, (torch.zeros(1, 64, 8, 8),))
    assert Macs()(graph) == counts.macs - darts.counts(found, 4, 6).macs


@settings(max_examples=200)
@given(SEEDS, st.integers(1, 7), st.integers(1, 3))
def test_numbers_of_nodes_and_the_order_of_edges_do_not_matter(seed, count, operations):
    nodes = cell_of(count, operations, seed)
    found = nasnet_cell.canonical(genes_of(nodes))
    assert nasnet_cell.canonical(found) == found
    assert function_of(nodes_of(found)) == function_of(nodes)
    generator = np.random.default_rng(seed)
    for _ in range(20):
        other = renumbered(nodes, generator.permutation(count).tolist())
        if other is not None:
            turned = tuple(node[::-1] if generator.random() < 0.5 else node for node in other)
            assert nasnet_cell.canonical(genes_of(turned)) == found


def test_cells_of_one_form_are_cells_of_one_graph():
    """All 2,304 cells of three nodes, the first of two operations, against all orders of their nodes."""
    forms, graphs = {}, {}
    edges = [[(op, before) for op in range(2 if node == 2 else 1) for before in range(node)] for node in (2, 3, 4)]
    for nodes in itertools.product(*(itertools.product(each, repeat=2) for each in edges)):
        least = min(
            tuple(tuple(sorted(node)) for node in other)
            for order in itertools.permutations(range(3))
            if (other := renumbered(nodes, order)) is not None
        )
        form = nasnet_cell.canonical(genes_of(nodes))
        forms.setdefault(form, set()).add(least)
        graphs.setdefault(least, set()).add(form)
    assert max(map(len, forms.values())) == max(map(len, graphs.values())) == 1


@given(SEEDS)
def test_genotypes_go_both_ways(seed):
    found = darts.SPACE.random(np.random.default_rng(seed))
    assert darts.from_text(darts.to_text(found)) == found
    form = darts.SPACE.check(darts.canonical(found))
    assert darts.counts(form, 16, 8) == darts.counts(found, 16, 8)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("Genotype(", "Genotype", "no genotype"),
        ("normal=[", "usual=[", "are expected"),
        ("('sep_conv_3x3', 0)", "('conv_9x9', 0)", "no operation 'conv_9x9'"),
        ("[2, 3, 4, 5]", "[3, 4, 5]", "other nodes than 2, 3, 4 and 5"),
        ("('sep_conv_3x3', 0)", "('sep_conv_3x3', 1)", "no network of DARTS"),
        ("('sep_conv_3x3', 0), ", "", "32 genes, this one"),
        ("('sep_conv_3x3', 0)", "('sep_conv_3x3', 4)", "node 2 input 0 is 4"),
        ("('sep_conv_3x3', 0)", "__import__('os')", "no genotype"),
    ],
)
def test_what_is_no_genotype(before, after, message):
    with pytest.raises(WithinError, match=message):
        darts.from_text(SECOND_ORDER.replace(before, after))


def test_the_table_of_nasnet_cells(data):
    table = nasnet_cell_table.read(data("nas") / "lanas_nasnet_cell_acc.parquet")
    assert len(table) == 4322
    first = ((0, 1), (1, 1)), ((2, 0), (1, 1)), ((2, 0), (2, 2)), ((1, 2), (3, 1))
    assert nodes_of(table.architectures[0])[:4] == first
    assert len({nasnet_cell.canonical(each) for each in table.architectures}) == 4322
    assert int((table.labels("valid_acc") < 50).sum()) < 259
    normal, reduction = nasnet_cell.cells(table.architectures[0])
    assert reduction.concatenated == tuple(each for each in normal.concatenated if each > 1)
