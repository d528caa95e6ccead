"""The study of the bench `camvid`: a small SwiftNet on CamVid, pruned, from three starts, with three seeds.

All networks start from one that was trained to imitate a published network for Cityscapes (ESPNetv2, MIT licence) on
the training images of CamVid, as the published study starts from ImageNet and ADE20K. The random arm starts from
nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from within.core.errors import WithinError
from within.segmentation.models.espnet import CAMVID_DEVIATION, CAMVID_MEAN
from within.segmentation.study import StudySettings
from within.segmentation.training_settings import Schedule, TrainingSettings

FOLDER = Path(__file__).resolve().parents[1] / "artefacts" / "camvid"
NETWORK = "swiftnet_rn18"
CLASSES = 11
ARGUMENTS: dict[str, Any] = {
    "classes": CLASSES,
    "width": 16,
    "features": 64,
    "mean": CAMVID_MEAN,
    "deviation": CAMVID_DEVIATION,
}
SIZE = (240, 320)  # at which the networks work; labels and scores are 360 x 480
SEEDS = (0, 1, 2)
PRETRAINING_STEPS, STEPS = 2400, 1500


def segmentation_data() -> Path:
    """Returns the folder of the project's segmentation data.

    Raises:
        WithinError: when `WITHIN_DATA` does not lead to it.
    """
    folder = Path(os.environ.get("WITHIN_DATA", "")) / "segmentation"
    if not (folder / "camvid").is_dir():
        raise WithinError("CamVid is not there", where=str(folder), todo="set WITHIN_DATA to the folder of the data")
    return folder


def schedule(steps: int) -> Schedule:
    """Returns how every network is trained."""
    return Schedule(
        iterations=steps,
        batch_size=4,
        crop=SIZE,
        scale=(0.85, 1.6),
        brightness=0.3,
        colour=0.4,
        optimizer={"type": "AdamW", "lr": 2e-3, "weight_decay": 1e-4},
        encoder_factor=1.0,
        balance=1.05,
        loss_stride=2,
        ema=0.99,
        clip_gradients=5.0,
        precision="bfloat16",
        threads=1,
        workers=0,
    )


def settings(transfer: Path | None, seeds: tuple[int, ...] = SEEDS) -> StudySettings:
    """Returns the study, which starts from the weights given."""
    training = TrainingSettings(
        name="camvid",
        network=NETWORK,
        arguments=ARGUMENTS,
        data=str(segmentation_data() / "camvid"),
        schedule=schedule(STEPS),
        transfer=None if transfer is None else str(transfer),
        size=SIZE,
        checkpoint_every=300,
    )
    return StudySettings(training, seeds=seeds, count_size=SIZE)
