"""Cityscapes, fine annotation: 2975 training and 500 validation images, 1024x2048, 19 classes.

Cordts et al., CVPR 2016. `leftImg8bit/SPLIT/CITY/*_leftImg8bit.png` with `gtFine/SPLIT/CITY/*_gtFine_labelIds.png`, or
with `*_gtFine_labelTrainIds.png` where only these were kept.
"""

from __future__ import annotations

from pathlib import Path

from within.core.errors import WithinError
from within.segmentation.data.pairs import SegmentationPairs, find_pairs
from within.segmentation.label_map import CITYSCAPES, CITYSCAPES_TRAIN_IDS

_LAYOUT = (
    "Cityscapes as leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/*_gtFine_labelIds.png "
    "(or *_gtFine_labelTrainIds.png)"
)


def cityscapes(folder: str | Path, split: str = "train") -> SegmentationPairs:
    """Returns the pairs of one split.

    Arguments:
        folder: the one that holds `leftImg8bit` and `gtFine`.
        split: "train" or "val".

    Raises:
        WithinError: for the test split, whose labels are not public; when there is no such split, or files are missing.
    """
    root = Path(folder)
    if split == "test":
        raise WithinError(
            "The labels of Cityscapes' test split are not public; the files in gtFine/test are empty stand-ins",
            where=str(root),
            todo='evaluate on split "val", or send predictions to the benchmark\'s server',
        )
    truth = root / "gtFine" / split
    train_ids = not any(truth.glob("*/*_gtFine_labelIds.png")) and any(truth.glob("*/*_gtFine_labelTrainIds.png"))
    kind, label_map = ("labelTrainIds", CITYSCAPES_TRAIN_IDS) if train_ids else ("labelIds", CITYSCAPES)

    def label_of(image: Path) -> Path:
        return truth / image.parent.name / f"{image.name.removesuffix('_leftImg8bit.png')}_gtFine_{kind}.png"

    return find_pairs(root / "leftImg8bit" / split, "*/*_leftImg8bit.png", label_of, label_map, origin=_LAYOUT)
