"""Encoders by name: every pair of the table encodes its space, and what is not there is said with what is."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet
import pytest
import torch
from scipy.stats import kendalltau

from within.core.errors import WithinError
from within.nas.encoders.cell_genes import CellGenes, interleaved
from within.nas.encoders.named import ENCODERS, make_encoder
from within.nas.predictor import Predictor, scores, train_predictor
from within.nas.spaces import nasbench101, nasbench201

PAIRS = [(name, space) for space, variants in ENCODERS.items() for name in variants]


def drawn(space, count):
    generator = np.random.default_rng(0)
    if space in ("nasbench201", "nasbench101"):
        return [(nasbench201 if space == "nasbench201" else nasbench101).SPACE.random(generator) for _ in range(count)]
    nodes, cells, operations = {"nasnet_cell": (7, 1, 4), "darts": (4, 2, 7)}[space]
    highest = [each for _ in range(cells) for node in range(nodes) for each in (operations, node + 2) * 2]
    return [tuple(generator.integers(0, highest).tolist()) for _ in range(count)]


@pytest.mark.parametrize(("name", "space"), PAIRS)
def test_every_gene_reaches_the_embedding(name, space):
    """For each gene there is an architecture whose embedding changes with it."""
    torch.manual_seed(0)
    encoder = make_encoder(name, space).double().eval()
    architectures = drawn(space, 30)
    reached = set()
    with torch.no_grad():
        before = encoder(torch.tensor(architectures))
        assert before.shape == (30, encoder.embedding_width)
        for gene in range(len(architectures[0])):
            changed = torch.tensor(architectures)
            changed[:, gene] = (changed[:, gene] + 1) % 2
            if bool(((encoder(changed) - before).abs().amax(1) > 1e-9).any()):
                reached.add(gene)
    assert reached == set(range(len(architectures[0])))


def test_what_is_there():
    assert set(ENCODERS["nasbench201"]) == {"mlp", "lstm", "gcn", "gcn_global", "gates", "ta_gates"}
    assert make_encoder("gates", "darts").embedding_width == 2 * 128
    assert make_encoder("gates", "darts", widths=(64,) * 2).embedding_width == 2 * 64
    inputs = make_encoder("lstm", "nasnet_cell").values[1::2]
    assert inputs == (2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8)


def test_what_is_not_there():
    with pytest.raises(WithinError, match=r"No encoder knows the space 'nb201'.*nasbench201, nasbench101"):
        make_encoder("gates", "nb201")
    with pytest.raises(WithinError, match=r"no encoder 'gat' for darts.*mlp, lstm, gates"):
        make_encoder("gat", "darts")
    with pytest.raises(WithinError, match=r"no encoder 'gcn' for darts, only for nasbench201, nasbench101"):
        make_encoder("gcn", "darts")
    with pytest.raises(WithinError, match=r"no argument width.*widths"):
        make_encoder("gates", "nasbench201", width=3)


def test_genes_one_after_the_other():
    assert interleaved(2) == CellGenes(((0, 2), (4, 6)), ((1, 3), (5, 7)))
    assert interleaved(1, slots=3, first=10) == CellGenes(((10, 12, 14),), ((11, 13, 15),))


def test_measured_nasnet_cells_are_ranked(data):
    """Trained on 300 of LaNAS' cells, on others."""
    table = pyarrow.parquet.read_table(data("nas") / "lanas_nasnet_cell_acc.parquet")
    columns = [f"{part}_{node}_{slot}" for node in range(7) for slot in range(2) for part in ("op", "in")]
    genes = np.stack([table[name].to_numpy() for name in columns], axis=1)
    order = np.random.default_rng(0).permutation(len(genes))  # the table is that of a search
    architectures = [tuple(row) for row in genes[order].tolist()]
    accuracies = table["valid_acc"].to_numpy()[order]
    torch.manual_seed(0)
    predictor = Predictor(make_encoder("gates", "nasnet_cell", widths=(48,) * 4), (100,))
    train_predictor(predictor, architectures[:300], accuracies[:300], epochs=40, batch_size=100)
    found = kendalltau(scores(predictor, architectures[1000:]), accuracies[1000:])[0]
    assert found > 0.2
