"""Tables: what is wrong with a file is said with its row."""

from __future__ import annotations

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from within.core.errors import WithinError
from within.nas.tables.nasbench201_table import EDGE_COLUMNS, read


@pytest.fixture
def columns():
    found = {name: np.array([1, 2, 3]) for name in EDGE_COLUMNS}
    return {**found, "arch_idx": np.array([7, 5, 6]), "accuracy": np.array([90.0, 91.0, 92.0])}


def written(path, columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_rows_are_in_the_official_order(columns, tmp_path):
    table = read(written(tmp_path / "a.parquet", columns))
    assert [cell[0] for cell in table.architectures] == [2, 3, 1]
    assert table.labels("accuracy").tolist() == [91, 92, 90]
    assert table.rows([2, 0]).column("accuracy").tolist() == [90, 91]


def test_what_cannot_be(columns, tmp_path):
    path = tmp_path / "a.parquet"
    with pytest.raises(WithinError, match="not there"):
        read(path)
    path.write_text("no table")
    with pytest.raises(WithinError, match="no parquet file"):
        read(path)
    with pytest.raises(WithinError, match="Columns are missing: op_1to2"):
        read(written(path, {name: values for name, values in columns.items() if name != "op_1to2"}))
    with pytest.raises(WithinError, match=r"0 to 1 is 9.*row 2"):
        read(written(path, {**columns, "op_0to1": np.array([9, 2, 3])}))
    with pytest.raises(WithinError, match="occurs twice"):
        read(written(path, {**columns, **{name: np.array([1, 1, 3]) for name in EDGE_COLUMNS}}))
    with pytest.raises(WithinError, match="All labels 'accuracy' are 90"):
        read(written(path, {**columns, "accuracy": np.full(3, 90.0)})).labels("accuracy")
    with pytest.raises(WithinError, match=r"1 of 3 labels 'accuracy' are NaN.*row 2"):
        read(written(path, {**columns, "accuracy": np.array([np.nan, 1, 2])})).labels("accuracy")
