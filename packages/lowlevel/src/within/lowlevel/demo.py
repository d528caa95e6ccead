"""`within demo`: the project's own denoiser, fitted into half of its memory, on photographs that packages bring along.

The network was trained by `configs/unet/unet_denoise.py` on the training half of the sample photographs; it is measured
on the held-out ones.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from within.core.report import ReportContent
from within.lowlevel.compress import main

WEIGHTS = "unet_denoise.safetensors"
JOB = {
    "network": "unet_denoise",
    "sigma": 25.0,
    "size": (512, 512),
    "fraction": 0.5,
    "method": "whole",
    "step": 1,
    "fine_tuning": {"iterations": 1200, "batch_size": 8, "patch_size": 64, "learning_rate": 2e-3},
}


def weights_path() -> Path:
    """Returns the shipped weights."""
    return Path(str(resources.files("within.lowlevel") / "shipped" / WEIGHTS))


def run(folder: Path) -> ReportContent:
    """Runs the demo into a run directory."""
    return main({**JOB, "weights": str(weights_path())}, run_directory=folder, resume=True).content
