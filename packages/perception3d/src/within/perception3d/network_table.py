"""All networks with their parameters and what their dense part multiplies."""

from __future__ import annotations

from typing import Any

import torch

from within.core import Macs, trace
from within.core.report import ReportTable
from within.perception3d.export import map_shape
from within.perception3d.models.folding import DenseBev
from within.perception3d.models.variants import VARIANTS, build


def table_rows() -> list[dict[str, Any]]:
    """Returns a row a detector: parameters in all and of the 3-D backbone, 2-D backbone and head; dense MACs."""
    rows = []
    for name, variant in VARIANTS.items():
        detector = build(name).eval()
        parts = {"3d": detector.backbone, "2d": detector.bev, "head": detector.head}
        sizes = {part: sum(each.numel() for each in module.parameters()) for part, module in parts.items()}
        with torch.device("meta"):
            image = torch.zeros(1, *map_shape(detector))
        dense = DenseBev(detector.bev, detector.head).to("meta").eval()
        macs = Macs()(trace(dense, (image,)))
        row = {"name": name, "parameters": sum(sizes.values()), "dense MACs": int(macs), "note": variant.note}
        rows.append(row | {f"parameters {part}": size for part, size in sizes.items()})
    return rows


def as_table(rows: list[dict[str, Any]]) -> ReportTable:
    """Returns the rows as a table."""
    columns = ("network", "parameters", "3-D", "2-D", "head", "dense GMACs of 2-D and head", "")
    table = [
        (row["name"], *(f"{row[key]:,}" for key in ("parameters", "parameters 3d", "parameters 2d", "parameters head")),
         f"{row['dense MACs'] / 1e9:.3f}", row["note"])
        for row in rows
    ]  # fmt: skip
    return ReportTable("Detectors", columns, tuple(table), "the 3-D backbone's MACs depend on the cloud: see `bench`")
