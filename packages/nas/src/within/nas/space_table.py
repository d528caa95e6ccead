"""The spaces in a table: genes, combinations, and what a random network costs: `within nas spaces`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from within.core.report import ReportTable
from within.core.report.quantity import quantity
from within.nas.spaces.named import SPACES, costs


def rows() -> list[dict[str, Any]]:
    """Returns a record of each space."""
    generator = np.random.default_rng(0)
    found = []
    for name, space in SPACES.items():
        architecture = space.random(generator)
        found.append(
            {
                "name": name,
                "space": space.name,
                "genes": len(space.genes),
                "combinations": space.combinations,
                "random_architecture": list(architecture),
                **{cost: function(architecture) for cost, function in costs(name).items()},
            }
        )
    return found


def as_table(found: Sequence[Mapping[str, Any]]) -> ReportTable:
    """Returns the table that people read."""
    return ReportTable(
        "Spaces",
        ("name", "space", "genes", "combinations", "parameters of a random network", "its MACs"),
        tuple(
            (
                each["name"], each["space"], each["genes"], f"{each['combinations']:.3g}",
                quantity(each["params"], "parameters"), quantity(each["macs"], "MAC"),
            )
            for each in found
        ),
        "Combinations of genes, networks or not.",
    )  # fmt: skip
