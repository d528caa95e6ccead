"""NAS-Bench-201: published counts of the space, of parameters and of multiply-accumulates; its text; its table."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.nas.spaces import nasbench201
from within.nas.spaces.nasbench201 import SPACE
from within.nas.tables.nasbench201_table import read

TABLE = Path(os.environ.get("WITHIN_DATA", "")) / "nas" / "nasbench201.parquet"
FIRST = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"

CELLS = st.tuples(*[st.integers(0, 4)] * 6)


def test_published_counts_of_the_space():
    cells = list(SPACE.all())
    assert len(cells) == SPACE.combinations == 15_625
    assert len({nasbench201.function_text(cell) for cell in cells}) == 6_466
    assert sum(nasbench201.live(cell) == cell for cell in cells) == 9_445
    assert max(map(nasbench201.parameters, cells)) == 1_531_546
    assert max(map(nasbench201.macs, cells)) == 220_119_680


def test_the_first_official_cell():
    cell = nasbench201.from_text(FIRST)
    assert nasbench201.to_text(cell) == FIRST
    assert nasbench201.parameters(cell) == 129_306
    assert nasbench201.macs(cell, official=True) == 15_647_370


@given(CELLS)
def test_texts_go_both_ways(cell):
    assert nasbench201.from_text(nasbench201.to_text(cell)) == cell


@given(CELLS)
def test_canonical_cells_compute_the_same(cell):
    """Idempotent, never of more weights, and equal for the mirrored cell."""
    found = nasbench201.canonical(cell)
    assert nasbench201.canonical(found) == found
    assert nasbench201.parameters(found) <= nasbench201.parameters(cell)
    assert nasbench201.parameters(found) == nasbench201.parameters(nasbench201.live(cell))
    into_1, into_2, between, out, from_1, from_2 = cell
    if between == nasbench201.NONE:
        assert nasbench201.canonical((into_2, into_1, between, out, from_2, from_1)) == found


def test_what_is_no_cell():
    with pytest.raises(WithinError, match="no cell of NAS-Bench-201"):
        nasbench201.from_text("|conv~0|")
    with pytest.raises(WithinError, match="6 genes, this one 2"):
        SPACE.check((1, 2))
    with pytest.raises(WithinError, match="0 to 1 is 5"):
        SPACE.check((5, 0, 0, 0, 0, 0))


@pytest.mark.skipif(not TABLE.is_file(), reason="the table of NAS-Bench-201 is not there")
def test_the_table_has_our_counts():
    table = read(TABLE)
    counts = [(nasbench201.parameters(cell), nasbench201.macs(cell, official=True)) for cell in table.architectures]
    assert np.array_equal(np.stack([table.column("params"), table.column("macs")], axis=1), counts)
    with pytest.raises(WithinError, match="NaN"):
        table.labels("zc_nwot")
    with pytest.raises(WithinError, match="such as cifar10_test_acc"):
        table.labels("cifar10_test_accuracy")
