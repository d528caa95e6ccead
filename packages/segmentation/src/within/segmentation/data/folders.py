"""Which data set a folder holds, seen from its layout, so that a folder's name is all that a command needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from within.core.errors import WithinError
from within.segmentation.data.ade20k import ade20k
from within.segmentation.data.camvid import camvid
from within.segmentation.data.cityscapes import cityscapes
from within.segmentation.data.pairs import SegmentationPairs

DATASETS: Mapping[str, Callable[[str | Path, str], SegmentationPairs]] = {
    "camvid": camvid,
    "cityscapes": cityscapes,
    "ade20k": ade20k,
}
# One of these folders is enough to tell a data set.
_SIGNS = {
    "cityscapes": ("leftImg8bit", "gtFine"),
    "ade20k": ("annotations/training", "annotations/validation", "images/training", "images/validation"),
    "camvid": ("trainannot", "valannot", "testannot", "train/labels", "val/labels", "test/labels"),
}


def find_dataset(folder: str | Path, split: str = "train") -> SegmentationPairs:
    """Returns the pairs of one split of the data set that a folder holds.

    Arguments:
        folder: laid out as CamVid, Cityscapes or ADE20K is published, or the folder above the only such one.
        split: "train", "val", or what else the data set has.

    Raises:
        WithinError: when the folder is missing or holds none of them, or several; and as the data set's own function.
    """
    root = Path(folder)
    if not root.is_dir():
        raise WithinError("The folder of the data set does not exist", where=str(root))
    places = [root] if _kind(root) else sorted(path for path in root.iterdir() if path.is_dir() and _kind(path))
    if len(places) != 1:
        found = sorted(path.name for path in root.iterdir())[:8]
        raise WithinError(
            f"The folder holds {len(places)} data sets of segmentation; it contains {', '.join(found) or 'nothing'}",
            where=str(root),
            todo="name the folder that holds train and val (CamVid), leftImg8bit and gtFine (Cityscapes), or images "
            "and annotations (ADE20K)",
        )
    return DATASETS[_kind(places[0])](places[0], split)


def _kind(folder: Path) -> str:
    """Returns the name of the data set, or an empty text."""
    return next((name for name, signs in _SIGNS.items() if any((folder / sign).is_dir() for sign in signs)), "")
