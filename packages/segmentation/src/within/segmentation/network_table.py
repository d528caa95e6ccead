"""What the networks cost at one image size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from within.core import Macs, Params, PeakMemory, trace
from within.core.report import ReportTable
from within.segmentation.models import build, names, variant


def as_table(rows: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> ReportTable:
    """Returns the rows as people read them."""
    cells = [
        (
            row["name"],
            row["parameters"],
            round(row["macs"] / 1e9, 3),
            round(row["macs_thop_2019"] / 1e9, 3),
            round(row["peak_memory"] / 2**20, 1),
            row["published"],
        )
        for row in rows
    ]
    columns = ("name", "parameters", "GMACs", "GMACs, thop 2019", "peak memory, MiB", "published")
    return ReportTable(f"Networks at {size[0]} x {size[1]}", columns, tuple(cells))


def table_rows(chosen: Sequence[str] | None, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Returns name, parameters, multiply-accumulates (ours and the count of thop in 2019) and peak memory in bytes.

    Arguments:
        chosen: names of variants; all of them by default.
        size: height and width of the image.

    Raises:
        WithinError: for an unknown name, or a size that a network does not take.
    """
    rows = []
    for name in chosen or names():
        graph = trace(build(name).eval(), (torch.zeros(1, 3, *size),))
        rows.append(
            {
                "name": name,
                "parameters": Params()(graph),
                "macs": Macs()(graph),
                "macs_thop_2019": Macs("thop_2019")(graph),
                "peak_memory": PeakMemory()(graph),
                "published": variant(name).published,
            }
        )
    return rows
