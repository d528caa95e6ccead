"""A table of packed networks: rate and error of each against what was published.

A row of such a table is a mapping: `name`; `published`, with `rate`, `before` and `after`; and the keys of a
configuration of `within pack`, whose `weights` lie in the data folder and whose functions get that folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from within.core.cli.packing import PackingConfiguration, read_packing, run_packing
from within.core.errors import WithinError
from within.core.packing import Account
from within.core.progress import track
from within.core.report import ReportTable

COLUMNS = (
    "network",
    "bytes",
    "rate",
    "published rate",
    "bits a weight",
    "bits a gap",
    "top-1 error before",
    "top-1 error after",
    "published before",
    "published after",
    "remark",
)


def packing_table(config: Mapping[str, Any], data: Path) -> ReportTable:
    """Packs every network whose weights are there, with training and measurement on the data of the folder.

    Raises:
        WithinError: when no row of the table can be run, or a configuration is wrong.
    """
    rows = []
    for row in track(list(config["rows"]), "Packing"):
        settings = {key: value for key, value in row.items() if key not in ("name", "published")}
        configuration = read_packing(settings, where=row["name"])
        try:
            rows.append((row["name"], *_measure(configuration, row["published"], data)))
        except WithinError as error:
            rows.append((row["name"], *(None,) * (len(COLUMNS) - 2), error.paragraph()))
    if all(row[1] is None for row in rows):
        raise WithinError(f"No row of the table could be run: {rows[0][-1]}", where=str(data))
    note = "Rates count everything in the file: indices, padding, codebooks, code tables, biases, names, checksums."
    return ReportTable(config["title"], COLUMNS, tuple(rows), note)


def _measure(configuration: PackingConfiguration, published: Mapping[str, float], data: Path) -> tuple[Any, ...]:
    weights = data / configuration.model["weights"]
    if not weights.is_file():
        raise WithinError("The weights are missing", where=str(weights))
    configuration = PackingConfiguration(
        **{**vars(configuration), "model": {**configuration.model, "weights": str(weights)}}
    )
    with tempfile.TemporaryDirectory(prefix="within-pack-") as folder:
        packed = run_packing(configuration, Path(folder) / "packed.within", data)
    account = packed.result.account
    weight, gap = _bits_each(account)
    error = "top-1 error"
    return (
        account.file_bytes,
        round(account.rate, 2),
        published["rate"],
        weight,
        gap,
        packed.before.get(error),
        packed.after.get(error),
        published["before"],
        published["after"],
        "",
    )


def _bits_each(account: Account) -> tuple[float, float]:
    """Returns the mean bits of a weight's code and of its gap."""
    tensors = [tensor for tensor in account.tensors if tensor.encoding in ("sparse", "shared")]
    nonzeros = max(sum(tensor.nonzeros for tensor in tensors), 1)
    weights, indices = (sum(getattr(tensor, part) for tensor in tensors) for part in ("weights", "indices"))
    return round(weights / nonzeros, 2), round(indices / nonzeros, 2)
