"""A validation that keeps the best weights of a training in its run directory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from within.core.checkpoint import save_model
from within.core.files import read_json, write_json
from within.core.plan import Plan

BEST = "best.json"
Measure = Callable[[nn.Module], Mapping[str, float]]


class BestWeights:
    """A validation that keeps the weights whose first figure is the largest, over interruptions too.

    The run directory receives their `plan.json` and `model.safetensors`, and their figures as `best.json`.

    Arguments:
        measure: returns figures by name; the first decides, and larger is better.
        plan: how the network was made.
        folder: the run directory.
    """

    def __init__(self, measure: Measure, plan: Plan, folder: Path) -> None:
        self.measure, self.plan, self.folder = measure, plan, folder

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Returns the figures of a network, and keeps it where it is the best so far."""
        figures = dict(self.measure(network))
        first, best = next(iter(figures)), self.folder / BEST
        before = float(read_json(best)[first]) if best.is_file() else -math.inf
        if figures[first] > before:
            save_model(network, self.plan, self.folder)
            write_json(best, figures)
        return figures
