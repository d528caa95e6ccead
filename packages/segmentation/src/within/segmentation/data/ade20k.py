"""ADE20K for scene parsing (SceneParse150): 20,210 training and 2,000 validation images of many sizes, 150 classes.

Zhou et al., CVPR 2017. `ADEChallengeData2016/images/{training,validation}/*.jpg` with
`ADEChallengeData2016/annotations/{training,validation}/*.png`.
"""

from __future__ import annotations

from pathlib import Path

from within.core.errors import WithinError
from within.segmentation.data.pairs import SegmentationPairs, find_pairs
from within.segmentation.label_map import ADE20K

_LAYOUT = "ADE20K as images/{training,validation}/*.jpg and annotations/{training,validation}/*.png"
_SPLITS = {"train": "training", "training": "training", "val": "validation", "validation": "validation"}


def ade20k(folder: str | Path, split: str = "train") -> SegmentationPairs:
    """Returns the pairs of one split.

    Arguments:
        folder: `ADEChallengeData2016`, the one that holds `images` and `annotations`.
        split: "train" or "val"; the folders' own names "training" and "validation" do as well.

    Raises:
        WithinError: when there is no such split with labels, or files are missing.
    """
    if split not in _SPLITS:
        raise WithinError(
            f"ADE20K has no labelled split {split!r}", where=str(folder), todo=f"choose one of {', '.join(_SPLITS)}"
        )
    images, labels = (Path(folder) / part / _SPLITS[split] for part in ("images", "annotations"))
    return find_pairs(images, "*.jpg", lambda image: labels / f"{image.stem}.png", ADE20K, origin=_LAYOUT)
