"""Tables by name, each with the space of its architectures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from within.core.errors import WithinError
from within.nas.spaces import darts
from within.nas.tables import (
    accel_nasbench_table,
    device_latency,
    nasbench101_table,
    nasbench201_table,
    nasbench_macro_table,
    nasnet_cell_table,
    transnasbench101_table,
)
from within.nas.tables.own_table import read_own
from within.nas.tables.table import Table


def _read_darts(path: str | Path) -> Table:
    """Reads .csv or parquet with a column `genotype` in the format of DARTS, and columns of numbers."""
    return read_own(path, darts.SPACE, text="genotype", from_text=darts.from_text)


TABLES: Mapping[str, Callable[[str | Path], Table]] = MappingProxyType(
    {
        "nasbench201": nasbench201_table.read,
        "nasbench101": nasbench101_table.read,
        "nasbench_macro": nasbench_macro_table.read,
        "accel_nasbench": accel_nasbench_table.read,
        "nasnet_cell": nasnet_cell_table.read,
        "transnasbench101": transnasbench101_table.read,
        "darts": _read_darts,
        "mobile_net_v3": device_latency.read_mobile_net,
    }
)


def read_table(name: str, path: str | Path) -> Table:
    """Returns a table.

    Arguments:
        name: one of `TABLES`, the name of its space.
        path: of the file.

    Raises:
        WithinError: when there is no table of this name, or the file is wrong.
    """
    if name not in TABLES:
        raise WithinError(f"There is no table {name!r}", todo=f"choose one of {', '.join(TABLES)}")
    return TABLES[name](path)
