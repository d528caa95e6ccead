"""NAS-Bench-Macro, Accel-NASBench and TransNAS-Bench-101: our counts are those of every row of their tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.nas.spaces import accel_nasbench, nasbench201, nasbench_macro, transnasbench101
from within.nas.tables import accel_nasbench_table, nasbench_macro_table, transnasbench101_table

CHAINS = st.tuples(*[st.integers(0, 2)] * 8)
CELLS = st.tuples(*[st.integers(0, 3)] * 6)


def test_nasbench_macro_counts_of_every_row(data):
    table = nasbench_macro_table.read(data("nas") / "nasbench_macro.parquet")
    assert len(table) == 5249
    counts = [nasbench_macro.counts(each) for each in table.architectures]
    assert [each.params for each in counts] == table.column("params").tolist()
    assert [each.macs for each in counts] == table.column("flops").tolist()
    accuracy = table.labels("mean_acc")
    assert nasbench_macro.to_text(table.architectures[int(np.argmax(accuracy))]) == "22212220"
    assert accuracy.max() == pytest.approx(93.127, abs=1e-3)  # the published best is among these rows
    assert accuracy.min() == pytest.approx(45.36, abs=5e-3)


def test_equal_networks_of_nasbench_macro_were_measured_alike(data):
    """Where an identity stands in its stage does not matter: seeds aside, so say the measurements."""
    table = nasbench_macro_table.read(data("nas") / "nasbench_macro.parquet")
    groups: dict[object, list[float]] = {}
    for each, accuracy in zip(table.architectures, table.column("mean_acc").tolist(), strict=True):
        groups.setdefault(nasbench_macro.canonical(each), []).append(accuracy)
    spreads = [max(each) - min(each) for each in groups.values() if len(each) > 1]
    assert len(spreads) > 1000
    assert float(np.mean(spreads)) < 0.2 < float(np.std(table.column("mean_acc")))


@given(CHAINS)
def test_chains_that_differ_by_the_places_of_identities(chain):
    found = nasbench_macro.canonical(chain)
    assert nasbench_macro.canonical(found) == found
    assert nasbench_macro.counts(found) == nasbench_macro.counts(chain)
    for start, length in ((0, 2), (2, 3), (5, 3)):
        assert found[start] == chain[start]
        inner = [op for op in chain[start + 1 : start + length] if op]
        assert [op for op in found[start + 1 : start + length] if op] == inner
    assert nasbench_macro.from_text(nasbench_macro.to_text(chain)) == chain


def test_the_number_of_different_chains():
    """A stage of two blocks: 3 x 3; of three: 3 x (1 + 2 + 2 x 2)."""
    assert len({nasbench_macro.canonical(each) for each in nasbench_macro.SPACE.all()}) == 9 * 21 * 21


def test_accel_nasbench_counts_of_every_row(data):
    table = accel_nasbench_table.read(data("nas") / "accel_nasbench_imagenet.parquet")
    assert len(table) == 4100  # ten of the 4,110 rows are second trainings
    params = np.array([accel_nasbench.parameters(each) for each in table.architectures])
    macs = np.array([accel_nasbench.macs(each, official=True) for each in table.architectures])
    assert np.array_equal(np.round(1e6 * table.column("params_m")), params)
    assert np.array_equal(np.round(1e6 * table.column("macs_m")), macs)
    assert table.labels("val_top1").max() == pytest.approx(67.05, abs=5e-3)
    assert not np.isfinite(table.column("throughput_tpuv2")).all()
    with pytest.raises(WithinError, match="NaN"):
        table.labels("throughput_tpuv2")


def test_efficientnet_b0_is_in_accel_nasbench():
    """The published network: 5,288,548 weights and 0.39 G multiply-accumulates."""
    expansions, kernels, depths = (1, 6, 6, 6, 6, 6, 6), (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 3, 3, 4, 1)
    genes = [value for block in zip(expansions, kernels, depths, [1] * 7, strict=True) for value in block]
    found = accel_nasbench.SPACE.check(
        [gene.values.index(value) for gene, value in zip(accel_nasbench.SPACE.genes, genes, strict=True)]
    )
    assert accel_nasbench.parameters(found) == 5_288_548
    assert accel_nasbench.macs(found) == pytest.approx(0.39e9, rel=0.02)


def test_transnasbench101_counts_of_every_row(data):
    """The published figure adds 2 for each number from a batch norm, 1 for each from ReLU, and 565,760 elsewhere."""
    table = transnasbench101_table.read(data("nas") / "transnasbench101_micro.parquet")
    assert len(table) == 1702
    params = [transnasbench101.parameters(each) for each in table.architectures]
    assert np.array_equal(np.round(1e6 * table.column("params")), params)
    for each, official in zip(table.architectures, table.column("flops").tolist(), strict=True):
        expected = transnasbench101.macs(each) + 2 * (32 * 128**2 + 64 * 64**2) + 565_760
        channels, size = 64, 64
        for times in (2, 1, 1, 1, 2, 1, 1, 1, 2, 1):  # cells
            for edge, operation in enumerate(each):
                inputs, side = (channels, size) if edge in (0, 1, 3) else (times * channels, size // times)
                if operation > 1 or (operation == 1 and inputs != times * channels):
                    expected += 2 * times * channels * (size // times) ** 2 + inputs * side**2
            channels, size = times * channels, size // times
        assert round(1e6 * official) == expected


@given(CELLS)
def test_texts_of_transnasbench101(cell):
    assert transnasbench101.from_text(transnasbench101.to_text(cell)) == cell
    assert transnasbench101.from_text(str(cell)) == cell
    assert transnasbench101.parameters(cell) >= transnasbench101.parameters(nasbench201.live(cell))


@pytest.mark.parametrize("text", ["64-41414-4_02_333", "64-41414-1_02", "(1, 2, 3)", "(1, 0, 2, 3, 3, 7)", ""])
def test_what_is_no_text(text):
    with pytest.raises(WithinError, match="no cell of TransNAS-Bench-101"):
        transnasbench101.from_text(text)
    with pytest.raises(WithinError, match="no network of NAS-Bench-Macro"):
        nasbench_macro.from_text(text)
