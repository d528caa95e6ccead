"""The table of NAS-Bench-Macro: CIFAR-10 test accuracies of three trainings of each network, in percent."""

from __future__ import annotations

from pathlib import Path

from within.nas.spaces import nasbench_macro
from within.nas.tables.table import Table, read_texts


def read(path: str | Path) -> Table:
    """Returns the architectures of the column `arch`, and all columns of numbers.

    `test_acc_0` to `test_acc_2`, `mean_acc` and `std_acc` in percent, `params`, and `flops`: multiply-accumulates.

    Raises:
        WithinError: when the file is missing or no table, columns are missing, or an architecture is unknown or occurs
            twice.
    """
    return read_texts(path, nasbench_macro.SPACE, "arch", nasbench_macro.from_text)
