"""The table of Accel-NASBench: ImageNet accuracies under a shortened training, and speeds on six accelerators."""

from __future__ import annotations

from pathlib import Path

from within.nas.spaces import accel_nasbench
from within.nas.tables.table import Table, read_parquet

GENE_COLUMNS = tuple(f"block{block}_{gene}" for block in range(accel_nasbench.BLOCKS) for gene in ("e", "k", "l", "se"))


def read(path: str | Path) -> Table:
    """Returns the architectures and all columns of numbers, architectures that were measured twice once, by the means.

    `val_top1`, `val_top5` in percent, `train_time` in seconds, `macs_m` and `params_m` in millions (`macs_m` as
    `accel_nasbench.macs(..., official=True)` counts), `latency_*` in ms, `throughput_*` in pictures a second; NaN
    where a device failed.

    Raises:
        WithinError: when the file is missing or no table, columns are missing, or an architecture is unknown.
    """
    return read_parquet(path, accel_nasbench.SPACE, GENE_COLUMNS, order="id", values=True, repeated=True)
