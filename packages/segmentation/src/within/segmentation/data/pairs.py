"""Images and their labels, pair by pair, as files: what all data sets of segmentation come down to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from within.core.errors import WithinError
from within.core.progress import track
from within.segmentation.data.images import read_image, read_label_ids
from within.segmentation.label_map import LabelMap


@dataclass(frozen=True)
class SegmentationPairs:
    """Images with labels of the same size.

    Attributes:
        images: photographs, in a fixed order.
        labels: the label image of each.
        label_map: what the numbers in them mean.

    Raises:
        WithinError: when there are none, or not one label for each image.
    """

    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    label_map: LabelMap

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise WithinError(f"There are {len(self.images)} images but {len(self.labels)} labels")
        if not self.images:
            raise WithinError("There are no images", where=self.label_map.name)

    def __len__(self) -> int:
        return len(self.images)

    def item_name(self, index: int) -> str:
        """Returns the name of the image's file."""
        return self.images[index].name

    def read(self, index: int) -> tuple[UInt8[Tensor, "3 height width"], UInt8[Tensor, "height width"]]:
        """Returns (image, label): RGB in 0..255, and class numbers with `label_map.ignore` for void.

        Raises:
            WithinError: when a file is missing or damaged, the sizes differ, or the label holds numbers that the data
                set does not know; with the path.
        """
        image, label = read_image(self.images[index]), self.read_label(index)
        if image.shape[1:] != label.shape:
            raise WithinError(
                f"Image and label differ in size: the image is {image.shape[1]}x{image.shape[2]}, "
                f"the label {label.shape[0]}x{label.shape[1]} (height x width)",
                where=f"{self.images[index]} and {self.labels[index]}",
                todo="use images and labels of the same release; resize labels only by nearest neighbour",
            )
        return image, label

    def read_label(self, index: int) -> UInt8[Tensor, "height width"]:
        """Returns the label alone; see `read`."""
        path = self.labels[index]
        return torch.from_numpy(self.label_map.to_classes(read_label_ids(path), where=str(path)))

    def take(self, indices: Iterable[int]) -> SegmentationPairs:
        """Returns some of the pairs, in the order given."""
        chosen = list(indices)
        return replace(
            self,
            images=tuple(self.images[index] for index in chosen),
            labels=tuple(self.labels[index] for index in chosen),
        )

    def class_shares(self) -> Float64[np.ndarray, " classes"]:
        """Returns the share of each class among all labelled pixels; every label is read once.

        Raises:
            WithinError: as `read`, and when no pixel at all is labelled.
        """
        counts = np.zeros(256, np.int64)
        for index in track(range(len(self)), "counting pixels"):
            counts += np.bincount(self.read_label(index).numpy().ravel(), minlength=256)
        labelled = counts[: self.label_map.num_classes]
        if not labelled.any():
            raise WithinError("No pixel is labelled: every label is void", where=str(self.labels[0].parent))
        return labelled / labelled.sum()


def find_pairs(
    images: Path, pattern: str, label_of: Callable[[Path], Path], label_map: LabelMap, *, origin: str
) -> SegmentationPairs:
    """Returns the images of a folder with the label of each.

    Arguments:
        images: the folder.
        pattern: of the image files in it, for example `*/*_leftImg8bit.png`.
        label_of: maps the path of an image to that of its label.
        label_map: what the labels mean.
        origin: what the data set should look like, for errors.

    Raises:
        WithinError: when the folder is missing or holds no such file, or labels are missing.
    """
    if not images.is_dir():
        raise WithinError("The folder of images does not exist", where=str(images), todo=f"it should hold {origin}")
    found = sorted(path for path in images.glob(pattern) if not path.name.startswith("."))
    if not found:
        raise WithinError(f"The folder holds no images {pattern}", where=str(images), todo=f"it should hold {origin}")
    return paired(found, [label_of(path) for path in found], label_map)


def paired(images: Iterable[Path], labels: Iterable[Path], label_map: LabelMap) -> SegmentationPairs:
    """Returns the pairs after a look at whether all files are there.

    Raises:
        WithinError: naming the first files that are missing, and how many there are.
    """
    pairs = SegmentationPairs(tuple(images), tuple(labels), label_map)
    for kind, paths in (("images", pairs.images), ("labels", pairs.labels)):
        missing = [str(path) for path in paths if not path.is_file()]
        if missing:
            raise WithinError(
                f"{len(missing)} of {len(paths)} {kind} are missing: {', '.join(missing[:3])}"
                f"{', ...' if len(missing) > 3 else ''}",
                where=str(paths[0].parent),
                todo="unpack the data set again, or remove what has no partner",
            )
    return pairs
