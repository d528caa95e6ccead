"""Rows of published tables of restoration quality, measured again on a user's copy of weights and images.

A table is a configuration under `tools/reproduce` whose `rows` are mappings of `TableRow`'s fields; `restoration` is
what its key `run` names. The data folder holds `weights/` and one folder for each set of images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from within.core.cli.configuration import read_dataclass
from within.core.errors import WithinError
from within.core.progress import track
from within.core.report import ReportTable
from within.lowlevel.eval import EvaluationResult, evaluate
from within.lowlevel.named_network import open_network
from within.lowlevel.protocols import find_protocol

SUFFIXES = (".pth", ".pt", ".mat")


@dataclass(frozen=True)
class TableRow:
    """One figure of a published table.

    Attributes:
        name: network and images.
        network, arguments, weights: what is built, and the file of its weights under `weights/`.
        protocol: see `within.lowlevel.protocols`.
        metric: the variant that the reference is in.
        reference: in dB; what the measured figure should be close to.
        origin: where the reference comes from.
        gt, lq: folders of images.
        images: how many images the reference is the mean of.
        slow: takes several minutes on a CPU.
        part: mean over the first images, by their number, for folders that hold only these (`gt` + "_part"); measured
            in the run that gave the reference over all of them.
    """

    name: str
    network: str
    weights: str
    protocol: str
    metric: str
    reference: float
    origin: str
    gt: str
    images: int
    lq: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    slow: bool = False
    part: Mapping[int, float] = field(default_factory=dict)


def table_rows(config: Mapping[str, Any]) -> tuple[TableRow, ...]:
    """Returns the rows of a table's configuration.

    Raises:
        WithinError: when a row lacks a field or has one that there is not.
    """
    rows = (read_dataclass(TableRow, given, str(given.get("name", "a row"))) for given in config["rows"])
    return tuple(rows)


def restoration(config: Mapping[str, Any], data: Path) -> ReportTable:
    """Measures every row whose weights and images are there; says of the others what is missing.

    Arguments:
        config: the table.
        data: folder that holds `weights/` and the images, or a folder `lowlevel` that does.

    Raises:
        WithinError: when nothing can be measured at all.
    """
    folder = data / "lowlevel" if (data / "lowlevel").is_dir() else data
    rows = table_rows(config)
    reasons = [missing(folder, row) for row in rows]
    if all(reasons):
        raise WithinError(
            f"None of the {len(rows)} rows can be measured: {reasons[0]}", where=str(folder), todo=str(config["data"])
        )
    lines: list[tuple[Any, ...]] = []
    for row, reason in track(list(zip(rows, reasons, strict=True)), "measuring"):
        if reason is not None:
            lines.append((row.name, row.metric, f"{row.reference:.4f}", "-", "-", f"not measured: {reason}"))
            continue
        result = measure(folder, row)
        expected = reference(row, len(result.images))
        found = result.mean[row.metric]
        origin = (
            row.origin if len(result.images) == row.images else f"first {len(result.images)} of {row.images} images"
        )
        lines.append((row.name, row.metric, f"{expected:.4f}", f"{found:.4f}", f"{found - expected:+.4f}", origin))
    return ReportTable(
        str(config["title"]), ("row", "figure", "published", "measured", "difference", "reference is"), tuple(lines)
    )


def missing(data: Path, row: TableRow) -> str | None:
    """Returns why a row cannot be measured, None when it can."""
    if not weights_of(data, row).is_file():
        return f"no weights/{row.weights} (or .pth, .pt, .mat)"
    if row.lq is not None and not (data / row.lq).is_dir():
        return f"no images in {row.lq}"
    folder = images_of(data, row)
    if not folder.is_dir():
        return f"no images in {row.gt}"
    count = len([path for path in folder.iterdir() if path.is_file()])
    if count != row.images and count not in row.part:
        return f"{count} images in {folder.name}, the reference is the mean of {row.images}"
    return None


def measure(data: Path, row: TableRow) -> EvaluationResult:
    """Evaluates the network of a row by its protocol."""
    named = open_network(row.network, weights=weights_of(data, row), arguments=row.arguments)
    protocol = find_protocol(row.protocol)
    dataset = protocol.dataset(images_of(data, row), None if row.lq is None else data / row.lq)
    forward = None
    if named.told_the_level:
        sigma = getattr(protocol.degradation, "sigma", None)
        others = named.other_inputs(sigma)
        forward = lambda batch: named.model(batch, *others)  # noqa: E731
    return evaluate(named.model, dataset, protocol.metrics, forward=forward)


def reference(row: TableRow, images: int) -> float:
    """Returns the reference for the mean over so many images."""
    return row.reference if images == row.images else row.part[images]


def weights_of(data: Path, row: TableRow) -> Path:
    """Returns the file of a row's weights: of the given name, or as published (.pth, .pt, .mat)."""
    given = data / "weights" / row.weights
    return next((path for path in (given, *map(given.with_suffix, SUFFIXES)) if path.is_file()), given)


def images_of(data: Path, row: TableRow) -> Path:
    """Returns the folder of a row's ground truth; where there is only a part of it, that."""
    whole = data / row.gt
    part = data / f"{row.gt.removesuffix('24')}_part"
    return whole if whole.is_dir() or not part.is_dir() else part
