"""Rows of published tables of segmentation, measured again on a user's copy of weights and images.

A table is a configuration under `tools/reproduce`. Its key `run` names `published_weights`, which evaluates
checkpoints, or `published_study`, which trains a pruning study from the start, beside the published figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from within.core.errors import WithinError
from within.core.progress import track
from within.core.report import ReportTable
from within.segmentation.data import find_dataset
from within.segmentation.eval import evaluate
from within.segmentation.named_network import open_network
from within.segmentation.study import study, study_settings
from within.segmentation.study import table as study_table

SUFFIXES = (".safetensors", ".pth", ".pt")


def published_weights(config: Mapping[str, Any], data: Path) -> ReportTable:
    """Evaluates every row whose weights and images are there; says of the others what is missing.

    Arguments:
        config: the table; its `rows` have `name`, `network`, `arguments`, `weights` (a file in `weights/`), `data` (a
            folder), `split`, `size`, `void` and `published` (mean IoU in per cent), and where needed `images` (how many
            the published figure is of) and `part` (the figure over other numbers of images, by that number).
        data: the folder that holds all of them, or a folder `segmentation` that does.

    Raises:
        WithinError: when nothing can be measured at all.
    """
    folder = data / "segmentation" if (data / "segmentation").is_dir() else data
    rows, reasons = [], []
    for row in track(list(config["rows"]), "Measuring"):
        weights = _weights(folder, row["weights"])
        found, images = None, "-"
        reason = "" if weights is not None else f"no weights/{row['weights']}"
        if weights is not None:
            try:
                pairs = find_dataset(folder / row["data"], row["split"])
                network = open_network(row["network"], weights=weights, arguments=row.get("arguments")).model
                scores = evaluate(network, pairs, size=row.get("size")).scores(row.get("void", "V0"))
                found, images = round(100 * scores.mean_iou, 2), str(len(pairs))
            except WithinError as error:
                reason = str(error)
        reasons.append(reason)
        published = row.get("published")
        difference = None if found is None or published is None else round(found - published, 2)
        rows.append((row["name"], row.get("void", "V0"), published, found, difference, images, reason or row["origin"]))
    if all(reasons):
        raise WithinError(
            f"None of the {len(rows)} rows can be measured: {reasons[0]}", where=str(folder), todo=str(config["data"])
        )
    columns = ("row", "void", "published mIoU", "measured", "difference", "images", "reference is")
    return ReportTable(str(config["title"]), columns, tuple(rows))


def published_study(config: Mapping[str, Any], data: Path) -> ReportTable:
    """Trains the networks of a pruning study that are not yet in `runs/NAME`, and returns its table.

    Arguments:
        config: the table: `study`, see `StudySettings`, and `published`, mean IoU in per cent by cut and arm.
        data: the folder of the data set.

    Raises:
        WithinError: as `study` does.
    """
    given = dict(config["study"])
    given["training"] = {**given["training"], "data": str(data)}
    settings = study_settings(given, where="study")
    folder = Path("runs") / settings.training.name
    folder.mkdir(parents=True, exist_ok=True)
    found = study_table(study(settings, folder))
    rows = tuple((*row, dict(config["published"]).get(f"{row[0]}, {row[1]}")) for row in found.rows)
    return ReportTable(str(config["title"]), (*found.columns, "published mIoU, %"), rows, found.note)


def _weights(folder: Path, name: str) -> Path | None:
    given = folder / "weights" / name
    return next((path for path in (given, *map(given.with_suffix, SUFFIXES)) if path.is_file()), None)
