"""The two networks of the bench `board`: SwiftNet on ResNet-18 at its published widths, dense and cut, on CamVid.

Stored and loaded as those of `speed_networks`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tools.benchmarks.networks.packed_weights import filled
from torch import nn

from within.core.plan import apply, read_plan
from within.segmentation.models import build
from within.segmentation.models.normalisation import CAMVID_DEVIATION, CAMVID_MEAN

FOLDER = Path(__file__).resolve().parents[1] / "artefacts" / "board"
NETWORK = "swiftnet_rn18"
ARGUMENTS: dict[str, Any] = {"classes": 11, "mean": CAMVID_MEAN, "deviation": CAMVID_DEVIATION}
PLAN = "pruned_plan.json"
MADE_BY = "python -m tools.benchmarks.training.board_swiftnet --directory runs/board"


def dense_network() -> nn.Module:
    """Returns the trained dense network, in evaluation mode.

    Raises:
        WithinError: when its files are missing or damaged.
    """
    return filled(build(NETWORK, **ARGUMENTS), FOLDER, "dense", made_by=MADE_BY)


def pruned_network() -> nn.Module:
    """Returns the trained network with half of the widths of all stages, in evaluation mode.

    Raises:
        WithinError: when its files are missing or damaged.
    """
    return filled(apply(read_plan(FOLDER / PLAN), build(NETWORK, **ARGUMENTS)), FOLDER, "pruned", made_by=MADE_BY)
