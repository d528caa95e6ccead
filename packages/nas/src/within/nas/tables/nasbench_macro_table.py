"""The table of NAS-Bench-Macro: CIFAR-10 test accuracies of three trainings of each network, in percent."""

from __future__ import annotations

from pathlib import Path

from within.nas.spaces import nasbench_macro
from within.nas.tables.columns import read_columns
from within.nas.tables.table import Table, table_of


def read(path: str | Path) -> Table:
    """Returns the architectures of the column `arch`, and all columns of numbers.

    `test_acc_0` to `test_acc_2`, `mean_acc` and `std_acc` in percent, `params`, and `flops`: multiply-accumulates.

    Raises:
        WithinError: when the file is missing or no table, columns are missing, or an architecture is unknown or occurs
            twice.
    """
    columns = read_columns(path, ["arch"])
    architectures = [nasbench_macro.from_text(text) for text in columns.column("arch").to_pylist()]
    return table_of(columns, nasbench_macro.SPACE, architectures, str(path))
