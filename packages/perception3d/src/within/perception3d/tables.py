"""Rows of published tables of 3-D perception, measured again on a user's copy of data and runs.

A table is a configuration under `tools/reproduce`. Its key `run` names a function here; every row names a run directory
or a file of weights that the user has trained with the configuration it names, or downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from within.core.errors import WithinError
from within.core.progress import track
from within.core.report import ReportTable
from within.perception3d.accounting import mean_cost, pass_cost
from within.perception3d.eval import evaluate
from within.perception3d.named_detector import detector_of, open_detector
from within.perception3d.pvcnn.eval import main as evaluate_points
from within.perception3d.scene_sources import find_scenes
from within.perception3d.training_scenes import network_inputs

COUNTED_FRAMES = 20
Measure = Callable[[Mapping[str, Any], Path, Path], tuple[float, str]]


def published_detectors(config: Mapping[str, Any], data: Path) -> ReportTable:
    """Evaluates every row whose weights and data are there, and counts what a pass multiplies.

    Arguments:
        config: the table; its `rows` have `name`, `weights` (a run directory or file within the data folder's `runs`),
            `network` and `arguments` where the weights are a file, `data` (a folder), `split`, `figure` (of the
            evaluation's summary), `published` and `config` (what trains it).
        data: the folder that holds all of them.

    Raises:
        WithinError: when nothing can be measured at all.
    """
    return _table(config, data, _detector)


def published_points(config: Mapping[str, Any], data: Path) -> ReportTable:
    """Evaluates the networks on points; see `published_detectors`. `settings` go to `pvcnn.eval`."""
    return _table(config, data, _points)


def _table(config: Mapping[str, Any], data: Path, measure: Measure) -> ReportTable:
    rows, reasons = [], []
    for row in track(list(config["rows"]), "Measuring"):
        weights, found, note = data / "runs" / str(row["weights"]), None, ""
        reason = "" if weights.exists() else f"no runs/{row['weights']}: train {row['config']}"
        if not reason:
            try:
                found, note = measure(row, weights, data)
            except WithinError as error:
                reason = str(error)
        reasons.append(reason)
        published = row.get("published")
        difference = None if found is None or published is None else round(found - published, 2)
        rows.append(
            (row["name"], row["figure"], published, found, difference, note, reason or str(row.get("origin", "")))
        )
    if all(reasons):
        raise WithinError(
            f"None of the {len(rows)} rows can be measured: {reasons[0]}", where=str(data), todo=str(config["data"])
        )
    columns = ("row", "figure", "published", "measured", "difference", "GMACs 3-D / 2-D / head", "reference is")
    return ReportTable(str(config["title"]), columns, tuple(rows))


def _detector(row: Mapping[str, Any], weights: Path, data: Path) -> tuple[float, str]:
    named = open_detector(row.get("network"), weights=weights, arguments=row.get("arguments"))
    scenes = find_scenes(data / row["data"], row.get("split", "val"))
    figure = evaluate(named.model, scenes).summary()[row["figure"]]
    detector = detector_of(named.model)
    count = min(COUNTED_FRAMES, len(scenes))
    clouds = [scenes.scene(index * len(scenes) // count).points for index in range(count)]
    cost = mean_cost(
        [pass_cost(named.model, *network_inputs([each], detector.grid, detector.columns)) for each in clouds]
    )
    return round(figure, 2), " / ".join(f"{cost.macs[part] / 1e9:.2f}" for part in ("3d", "2d", "head"))


def _points(row: Mapping[str, Any], weights: Path, data: Path) -> tuple[float, str]:
    settings = {"data": str(data / row["data"]), "weights": str(weights), **row.get("settings", {})}
    if "detections" in settings:
        settings["detections"] = str(data / settings["detections"])
    if weights.is_file():
        settings["network"] = row["network"]
    found = evaluate_points(settings)
    return round(float(found.figures[row["figure"]]), 2), ""
