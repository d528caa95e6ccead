"""Batches of random crops for `within.core.train.fit`: images 0..255 as the networks take them, labels as losses do."""

from __future__ import annotations

import warnings
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from within.segmentation.augmentation import (
    MEAN_COLOUR,
    check_crop,
    random_brightness,
    random_colour,
    random_crop_and_scale,
    random_horizontal_flip,
)
from within.segmentation.data.pairs import SegmentationPairs


class TrainingCrops:
    """A `BatchSource` of augmented crops; what a batch draws is decided by the generator it is given.

    Arguments:
        pairs: the training images.
        size: (height, width) of the crops; one number for squares.
        scale: range of the size of the box that is cut, relative to `size`.
        flip: mirror left to right with probability 1/2.
        brightness: strength of `random_brightness`; 0 for none.
        colour: strength of `random_colour`; 0 for none.
        mean: colour around images that are smaller than the box.
        cache_bytes: decoded images are kept in memory up to this much, in each process that prepares batches, and
            those beyond it are decoded at every visit; 0 keeps none.

    Raises:
        WithinError: when the crops are impossible.
    """

    def __init__(
        self,
        pairs: SegmentationPairs,
        *,
        size: int | tuple[int, int],
        scale: tuple[float, float] = (0.5, 2.0),
        flip: bool = True,
        brightness: float = 0.0,
        colour: float = 0.0,
        mean: tuple[float, float, float] = MEAN_COLOUR,
        cache_bytes: int = 2**30,
    ) -> None:
        self.pairs, self.scale, self.flip, self.mean = pairs, scale, flip, mean
        self.brightness, self.colour = brightness, colour
        self.size = (size, size) if isinstance(size, int) else size
        check_crop(self.size, scale)
        self._free = cache_bytes
        self._cache: dict[int, tuple[Tensor, Tensor]] = {}
        self._warned: set[int] = set()

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def class_shares(self) -> Float64[np.ndarray, " classes"]:
        """The share of each class among all labelled pixels; see `SegmentationPairs.class_shares`."""
        return self.pairs.class_shares()

    def item_name(self, index: int) -> str:
        """Returns the name of the image's file."""
        return self.pairs.item_name(index)

    def batch(
        self, indices: Int64[Tensor, " batch"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch 3 height width"], Int64[Tensor, "batch height width"]]:
        """Returns (images, labels): 0..255, and class numbers with the label map's `ignore` for void.

        Raises:
            WithinError: when a file cannot be used; see `SegmentationPairs.read`.
        """
        crops = [self._crop(index, generator) for index in indices.tolist()]
        images = torch.stack([image for image, _ in crops]).float()
        if self.brightness:
            images = random_brightness(images, generator, strength=self.brightness)
        if self.colour:
            images = random_colour(images, generator, strength=self.colour)
        return images, torch.stack([label for _, label in crops]).long()

    def _crop(self, index: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        image, label = self._read(index)
        ignore = self.pairs.label_map.ignore
        image, label = random_crop_and_scale(
            image, label, generator, size=self.size, scale=self.scale, mean=self.mean, ignore=ignore
        )
        return random_horizontal_flip(image, label, generator) if self.flip else (image, label)

    def _read(self, index: int) -> tuple[Tensor, Tensor]:
        if index in self._cache:
            return self._cache[index]
        image, label = self.pairs.read(index)
        if index not in self._warned and bool((label == self.pairs.label_map.ignore).all()):
            self._warned.add(index)
            warnings.warn(
                f"No pixel of {self.pairs.labels[index]} is labelled; training learns nothing from it", stacklevel=2
            )
        size = image.nbytes + label.nbytes
        if size <= self._free:
            self._free -= size
            self._cache[index] = image, label
        return image, label
