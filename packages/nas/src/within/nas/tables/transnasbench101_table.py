"""The table of TransNAS-Bench-101, micro: validation accuracy of one task, and zero-cost scores."""

from __future__ import annotations

from pathlib import Path

from within.nas.spaces import transnasbench101
from within.nas.tables.table import Table, read_texts


def read(path: str | Path) -> Table:
    """Returns the architectures of the column `net`, and all columns of numbers.

    `val_accs` in percent (63 kinds of scenes, by the number of parameters), `params` and `flops` in millions
    (`flops` counts activations and batch norms besides the multiply-accumulates), `zc_*` scores, `rank` among all.

    Raises:
        WithinError: when the file is missing or no table, columns are missing, or an architecture is unknown or occurs
            twice.
    """
    return read_texts(path, transnasbench101.SPACE, "net", transnasbench101.from_text)
