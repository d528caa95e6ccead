"""Published restoration figures, measured again with the published weights on the published images.

Passes when every row whose weights and images are there is within 0.02 dB of its reference, and MATLAB's bicubic
downscaling of Set5 is reproduced without a differing byte. Rows whose weights or images are missing are listed with
the reason; they neither pass nor fail.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from within.core.bench import BenchResult
from within.core.cli.configuration import load_config
from within.core.cli.reproduce import tables
from within.core.errors import WithinError
from within.core.progress import track
from within.lowlevel.data import imresize, modcrop, read_image
from within.lowlevel.tables import measure, missing, reference, table_rows

TOLERANCE_DB = 0.02
TABLES = ("denoising", "super_resolution")


def run(full: bool = False) -> BenchResult:
    """Measures every row whose data are there; those that take several minutes only when `full`."""
    data = _data()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        bicubic = {scale: _bicubic(data, scale) for scale in (2, 4)}
        lines: list[tuple[Any, ...]] = []
        figures: dict[str, Any] = {"tolerance_db": TOLERANCE_DB, "rows": {}, "not_measurable": {}}
        missed: list[str] = []
        for row in [row for table in TABLES for row in table_rows(load_config(tables()[table]))]:
            reason = missing(data, row) or ("takes several minutes, see --full" if row.slow and not full else None)
            if reason is not None:
                figures["not_measurable"][row.name] = reason
                lines.append((row.name, row.metric, row.reference, "-", "-", f"not measured: {reason}"))
                continue
            started = time.perf_counter()
            result = measure(data, row)
            count, measured = len(result.images), result.mean[row.metric]
            expected = reference(row, count)
            difference = measured - expected
            close = abs(difference) <= TOLERANCE_DB
            if not close:
                missed.append(row.name)
            origin = row.origin
            if count != row.images:
                origin = f"first {count} of {row.images} images, whose mean over all is {row.reference}"
            figures["rows"][row.name] = {
                "measured_db": measured,
                "reference_db": expected,
                "reference": origin,
                "images": count,
                "all_metrics": result.mean,
                "seconds": round(time.perf_counter() - started, 1),
            }
            lines.append((row.name, row.metric, f"{expected:.4f}", f"{measured:.4f}", f"{difference:+.4f}", origin))
    finally:
        torch.set_num_threads(threads)
    for scale, differing in bicubic.items():
        name = f"MATLAB bicubic x{scale}, Set5"
        if isinstance(differing, str):
            figures["not_measurable"][name] = differing
            continue
        figures["rows"][name] = {"differing_bytes": differing, "reference": 0}
        lines.append((name, "differing bytes", "0", str(differing), str(differing), "the published files"))
        if differing:
            missed.append(name)
    figures["missed"] = missed
    measured_any = bool(figures["rows"])
    columns = ("row", "figure", "reference", "measured", "difference", "reference is")
    return BenchResult("restoration", measured_any and not missed, figures, columns, lines)


def _data() -> Path:
    root = os.environ.get("WITHIN_DATA")
    if not root:
        raise WithinError(
            "The bench needs published weights and images",
            where="environment variable WITHIN_DATA",
            todo="set it to a folder that holds lowlevel/, see docs/data.md",
        )
    folder = Path(root) / "lowlevel"
    if not folder.is_dir():
        raise WithinError("The folder of weights and images does not exist", where=str(folder), todo="see docs/data.md")
    return folder


def _bicubic(data: Path, scale: int) -> int | str:
    """Returns how many bytes of the published low-resolution files differ from ours, or why that is unknown."""
    high, low = data / "Set5" / "HR", data / "Set5" / f"LR_x{scale}"
    if not high.is_dir() or not low.is_dir():
        return f"no images in {high if not high.is_dir() else low}"
    differing = 0
    for path in track(sorted(high.iterdir()), f"bicubic x{scale}"):
        published = read_image(low / f"{path.stem}x{scale}{path.suffix}")
        ours = imresize(modcrop(read_image(path), scale), 1 / scale)
        differing += published.size if ours.shape != published.shape else int(np.sum(ours != published))
    return differing
