"""The study of the bench `camvid`: a small SwiftNet on CamVid, pruned, from three starts, with three seeds.

All networks start from one that was trained to imitate a published network for Cityscapes (ESPNetv2, MIT licence) on
the training images of CamVid, as the published study starts from ImageNet and ADE20K. The random arm starts from
nothing.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from within.core.cli.configuration import read_config
from within.core.errors import WithinError
from within.segmentation.label_map import CITYSCAPES_TRAIN_IDS
from within.segmentation.study import StudySettings, study_settings
from within.segmentation.training_settings import Schedule

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "tools" / "benchmarks" / "artefacts" / "camvid"
CONFIG = ROOT / "packages" / "segmentation" / "configs" / "swiftnet" / "study_camvid.py"
SEEDS = (0, 1, 2)
PRETRAINING_STEPS, STEPS = 4800, 480


def segmentation_data() -> Path:
    """Returns the folder of the project's segmentation data.

    Raises:
        WithinError: when `WITHIN_DATA` does not lead to it.
    """
    folder = Path(os.environ.get("WITHIN_DATA", "")) / "segmentation"
    if not (folder / "camvid").is_dir():
        raise WithinError("CamVid is not there", where=str(folder), todo="set WITHIN_DATA to the folder of the data")
    return folder


def settings(transfer: Path | None = None, seeds: tuple[int, ...] = SEEDS) -> StudySettings:
    """Returns the study of the repository's configuration, which starts from the weights given."""
    chosen = {
        "training.data": str(segmentation_data() / "camvid"),
        "training.transfer": None if transfer is None else str(transfer),
        "training.transfer_classes": CITYSCAPES_TRAIN_IDS.classes,
        "seeds": seeds,
    }
    read, where = read_config(CONFIG, chosen)
    found = study_settings(read.to_dict(), where=where, folder=CONFIG.parent)
    return replace(found, training=replace(found.training, schedule=schedule(found.training.schedule, STEPS)))


def schedule(base: Schedule, steps: int) -> Schedule:
    """Returns a schedule of so many steps, for one thread of a CPU that has bfloat16."""
    return replace(base, epochs=None, iterations=steps, precision="bfloat16", threads=1, workers=0)
