"""Time of each encoder block at each level of the image pyramid, at nine widths, and the error of the fitted model.

Pyramidal SwiftNet on ResNet-18, image 256x512, three levels, ONNX Runtime, one thread, thread CPU time, the networks in
turns. The model (`within.segmentation.block_latency`) has its own coefficients for each block and level; beside its
error in every cell stands the error when the cell is foretold from all other widths.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from within.core.bench import BenchResult
from within.segmentation.levels import as_table, dense_and_pruned, latency_table
from within.segmentation.models import build

SIZE = (256, 512)
STAGES, WIDTHS = (1, 2, 3, 4), 9
MOST_ERROR = 0.10
REPEATS = 12


def run(full: bool = False) -> BenchResult:
    """Times and fits; `full` takes four times as many rounds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    started = time.perf_counter()
    full = dense_and_pruned(build("swiftnet_pyramid_rn18"), SIZE, STAGES, 0.5, widths=WIDTHS)
    networks = {"backbone": build("swiftnet_rn18").eval(), **full}
    cells = latency_table(networks, SIZE, repeats=REPEATS * (4 if full else 1))
    errors = {
        f"level {cell.level}, {cell.network}, {cell.block}": cell.error for cell in cells if cell.error is not None
    }
    foretold = [abs(cell.foretold_error) for cell in cells if cell.foretold_error is not None]
    missed = [f"{name}: {error:+.1%}" for name, error in errors.items() if abs(error) > MOST_ERROR]
    values = [abs(error) for error in errors.values()]
    table = as_table(cells)
    times = {(cell.level, cell.network, cell.block): cell.milliseconds for cell in cells}
    gains = {
        f"level {level}": {
            block: round(times[level, "dense", block] / times[level, "50.0%", block], 2)
            for block in ("stem", "b1", "b2", "b3", "b4", "forward")
        }
        for level in range(3)
    }
    figures = {
        "cells": len(values),
        "largest_error": round(max(values), 4),
        "median_error": round(float(np.median(values)), 4),
        "foretold_median": round(float(np.median(foretold)), 4),
        "foretold_largest": round(max(foretold), 4),
        "speed_of_half_widths": gains,
        "missed": missed,
        "seconds": round(time.perf_counter() - started),
    }
    return BenchResult("levels", not missed, figures, list(table.columns), [list(row) for row in table.rows])
