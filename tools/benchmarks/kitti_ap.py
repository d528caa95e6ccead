"""KITTI's average precision: the public evaluation's golden figures, and how fast they are had.

The public code needs a CUDA device for rotated overlaps; under numba's CUDA simulator it takes 25 seconds for 12
frames. Ours is timed on as many frames of the same files, one thread's CPU time, after it was compiled.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np

from within.core.bench import BenchResult
from within.core.errors import WithinError
from within.perception3d.data.kitti_labels import read_labels
from within.perception3d.metrics.kitti_ap import average_precision

FOLDER = Path("perception3d") / "golden_kitti_eval"
MOST_DIFFERENCE, LEAST_SPEED = 1e-3, 100.0
REFERENCE_SECONDS, REFERENCE_FRAMES = 25.0, 12
GOLDEN_FIGURES = 36


def run(full: bool = False) -> BenchResult:
    """Runs the bench; it is always whole."""
    folder = Path(os.environ.get("WITHIN_DATA", "")) / FOLDER
    if not folder.is_dir():
        raise WithinError("The golden files are not there", where=str(folder), todo="set WITHIN_DATA")
    names = sorted(path.name for path in (folder / "gt").glob("*.txt"))
    truth, found = ([read_labels(folder / part / name) for name in names] for part in ("gt", "dt"))
    precisions = average_precision(truth, found)
    expected = json.loads((folder / "expected.json").read_text())
    rows, differences = [], []
    for key, value in expected.items():
        name, kind, difficulty = key.replace("_R40", "").replace("/", "_").split("_")
        ours = precisions[name, kind, difficulty].r40
        differences.append(abs(ours - value))
        rows.append((name, kind, difficulty, f"{value:.4f}", f"{ours:.4f}", f"{differences[-1]:.1e}"))
    seconds = []
    for _ in range(9):
        before = time.thread_time()
        average_precision(truth[:REFERENCE_FRAMES], found[:REFERENCE_FRAMES])
        seconds.append(time.thread_time() - before)
    speed = REFERENCE_SECONDS / float(np.median(seconds))
    missed = []
    if len(differences) != GOLDEN_FIGURES or max(differences) > MOST_DIFFERENCE:
        missed.append("golden figures")
    if speed < LEAST_SPEED:
        missed.append("speed")
    figures = {
        "figures": len(differences), "largest_difference": max(differences), "frames": len(names),
        "milliseconds_for_12_frames": round(1e3 * float(np.median(seconds)), 2), "speed": round(speed),
        "missed": missed,
    }  # fmt: skip
    columns = ("class", "kind", "difficulty", "public code", "ours", "difference")
    return BenchResult("kitti-ap", not missed, figures, columns, rows)
