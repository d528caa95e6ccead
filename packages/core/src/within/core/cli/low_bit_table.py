"""A table of low-bit training: one network trained in float32 and in formats of few bits, with the same schedule.

A row of such a table is a mapping: `name`, `format` (exponent and mantissa bits, or None for float32) and `published`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import nn

from within.core.cli.factory import build_model, find_factory
from within.core.quantize.mls import MlsFormat, MlsSettings, restore, to_low_bit
from within.core.report import ReportTable
from within.core.train import fit

COLUMNS = ("training", "top-1 in its own arithmetic", "top-1 restored", "against float32", "published")
RUNS = Path("runs") / "reproduce-low-bit-training"


def low_bit_table(config: Mapping[str, Any], data: Path) -> ReportTable:
    """Trains every row and measures it on the test images; interrupted, it goes on from its last checkpoint.

    Arguments:
        config: `factory` and `arguments` of the network, functions `training` and `evaluate` of the data folder,
            `settings` of `fit`, `rows`.
        data: the data folder.

    Raises:
        WithinError: when the data are missing or damaged, or a training fails.
    """
    images, evaluate = find_factory(config["training"])(data), find_factory(config["evaluate"])
    rows: list[tuple[Any, ...]] = []
    for row in config["rows"]:
        model = build_model(config["factory"], config.get("arguments"))
        if row["format"] is not None:
            to_low_bit(model, MlsSettings.same(MlsFormat(*row["format"])))
        _train(model, images, config["settings"], str(row["name"]))
        low = evaluate(data, model.eval())["top-1"]
        restore(model)
        plain = evaluate(data, model.eval())["top-1"]
        first = rows[0][1] if rows else low
        rows.append((row["name"], round(low, 2), round(plain, 2), round(low - first, 2), row["published"]))
    note = f"Checkpoints and logs are in {RUNS}; remove it to train anew. Differences are in points."
    return ReportTable(config["title"], COLUMNS, tuple(rows), note)


def _train(model: nn.Module, images: Any, settings: Mapping[str, Any], name: str) -> None:
    folder = RUNS / "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")
    fit(model, images, loss=F.cross_entropy, run_directory=folder, resume=True, description=name, **settings)
