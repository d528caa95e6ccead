"""A user's own measurements, in parquet and comma-separated values, by genes, values and texts."""

from __future__ import annotations

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from within.core.errors import WithinError
from within.nas.spaces import Gene, Space, nasbench201, nasbench_macro
from within.nas.tables.columns import MARK, read_columns, write_columns
from within.nas.tables.own_table import read_own
from within.nas.tables.table import read_parquet

SMALL = Space("small", (Gene("kernel", (3, 5)), Gene("operation", ("conv", "pool"))))


def text(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_genes_by_their_numbers_and_by_their_values(tmp_path):
    numbers = text(tmp_path / "a.csv", ["kernel,operation,accuracy", "0,1,90.5", "1,0,91", "1,1,"])
    values = text(tmp_path / "b.csv", ["k,o,accuracy", "3,pool,90.5", "5,conv,91", "5,pool,"])
    tables = [read_own(numbers, SMALL), read_own(values, SMALL, genes=["k", "o"], values=True)]
    for table in tables:
        assert table.architectures == ((0, 1), (1, 0), (1, 1))
        assert table.column("accuracy") == pytest.approx([90.5, 91, np.nan], nan_ok=True)
    write_columns(tmp_path / "c.parquet", {"k": [3, 5], "o": ["pool", "conv"], "good": [True, False]})
    table = read_own(tmp_path / "c.parquet", SMALL, genes=["k", "o"], values=True)
    assert table.architectures == ((0, 1), (1, 0))
    assert table.labels("good").tolist() == [1, 0]


def test_texts_keep_their_zeros(tmp_path):
    path = text(tmp_path / "a.csv", ["arch,accuracy", "00000001,80", "22212220,93"])
    table = read_own(path, nasbench_macro.SPACE, text="arch", from_text=nasbench_macro.from_text)
    assert list(map(nasbench_macro.to_text, table.architectures)) == ["00000001", "22212220"]
    text(path, ["arch,accuracy", "00000001,80", "3,93"])
    with pytest.raises(WithinError, match="no network of NAS-Bench-Macro") as raised:
        read_own(path, nasbench_macro.SPACE, text="arch", from_text=nasbench_macro.from_text)
    assert raised.value.where == f"{path}, row 1"
    with pytest.raises(WithinError, match="needs a function"):
        read_own(path, nasbench_macro.SPACE, text="arch")


@pytest.mark.parametrize(
    ("row", "message"),
    [("2,0,1", "kernel is 2.*row 1"), ("0.5,0,1", "0.5, which is no whole"), (",0,1", "kernel is nan.*row 1"),
     ("x,0,1", "kernel is 0, which is no whole number"), ("0,1,1", "occurs twice.*rows 0 and 1"),
     ("1,1", "Expected 3 columns, got 2")],
)  # fmt: skip
def test_rows_that_cannot_be(tmp_path, row, message):
    path = text(tmp_path / "a.csv", ["kernel,operation,accuracy", "0,1,90.5", row])
    with pytest.raises(WithinError, match=message):
        read_own(path, SMALL)


def test_files_that_cannot_be(tmp_path):
    path = tmp_path / "a.parquet"
    write_columns(path, {"kernel": [0], "operation": [1]})
    with pytest.raises(WithinError, match="Columns are missing: op_0to1"):
        read_own(path, nasbench201.SPACE, genes=[f"op_{a}to{b}" for a, b in nasbench201.EDGES])
    with pytest.raises(WithinError, match="small has 2 genes, not 1"):
        read_parquet(path, SMALL, ["kernel"])
    found = pyarrow.parquet.read_table(path)
    assert found.schema.metadata == {MARK: b"1"}
    pyarrow.parquet.write_table(found.replace_schema_metadata({MARK: b"2"}), path)
    with pytest.raises(WithinError, match=r"newer version \(2; this one reads 1\)"):
        read_columns(path)
    pyarrow.parquet.write_table(found.slice(0, 0), path)
    with pytest.raises(WithinError, match="no rows"):
        read_own(path, SMALL)
    path.write_bytes(b"PAR1 cut off")
    with pytest.raises(WithinError, match="no parquet file"):
        read_own(path, SMALL)
    with pytest.raises(WithinError, match="no table of comma-separated values"):
        read_own(text(tmp_path / "a.csv", [""]), SMALL)


def test_repeated_measurements_become_their_means(tmp_path):
    path = tmp_path / "a.parquet"
    write_columns(path, {"a": [0, 1, 0, 0], "b": [1, 1, 1, 1], "y": [1.0, 5.0, 3.0, np.nan], "z": [np.nan] * 4})
    table = read_parquet(path, SMALL, ["a", "b"], repeated=True)
    assert table.architectures == ((0, 1), (1, 1))
    assert table.column("y").tolist() == [2, 5]
    assert np.isnan(table.column("z")).all()
