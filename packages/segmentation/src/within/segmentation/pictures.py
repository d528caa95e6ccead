"""Pictures of segmentation: classes in the data set's colours, and where two predictions differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from torch import Tensor, nn

from within.core.report import ImageStrip, Picture
from within.segmentation.data import SegmentationPairs
from within.segmentation.label_map import LabelMap
from within.segmentation.prediction import Forward, predict

AGREE, DIFFER = 0.35, (255, 40, 40)
SWATCH = (12, 24)


def coloured(classes: Integer[Tensor, "height width"], label_map: LabelMap) -> UInt8[np.ndarray, "height width 3"]:
    """Returns the picture of a label or prediction; void is black."""
    return label_map.colour(classes.numpy())


def difference(
    first: Integer[Tensor, "height width"],
    second: Integer[Tensor, "height width"],
    image: UInt8[Tensor, "3 height width"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Returns the image, dimmed, with the pixels in red whose two classes differ."""
    pixels = (image.permute(1, 2, 0).float() * AGREE).to(torch.uint8).numpy()
    pixels[(first != second).numpy()] = DIFFER
    return pixels


def strips(
    before: nn.Module | Forward,
    after: nn.Module | Forward,
    pairs: SegmentationPairs,
    *,
    count: int = 3,
    size: tuple[int, int] | None = None,
) -> tuple[ImageStrip, ...]:
    """Returns image, label, both predictions and their difference, for a few images spread over a data set, and a key.

    Arguments:
        before, after: the dense and the compressed network, in `eval` mode.
        pairs: images with labels.
        count: of images.
        size: height and width at which the networks work.
    """
    found, seen = [], torch.zeros(pairs.label_map.num_classes, dtype=torch.bool)
    for index in sorted({round(position) for position in np.linspace(0, len(pairs) - 1, count)}):
        image, label = pairs.read(index)
        batch = image[None].float()
        first, second = (predict(network, batch, size=size)[0].cpu() for network in (before, after))
        for classes in (label.long(), first, second):
            seen[classes[classes < len(seen)]] = True
        share = 100 * float((first != second).double().mean())
        found.append(
            ImageStrip(
                pairs.item_name(index),
                (
                    Picture("image", image.permute(1, 2, 0).numpy()),
                    Picture("label", coloured(label, pairs.label_map)),
                    Picture("dense", coloured(first, pairs.label_map)),
                    Picture("compressed", coloured(second, pairs.label_map)),
                    Picture(f"difference, {share:.1f} %", difference(first, second, image)),
                ),
            )
        )
    return (*found, _key(pairs.label_map, seen.nonzero().flatten().tolist()))


def _key(label_map: LabelMap, classes: Sequence[int]) -> ImageStrip:
    """Returns the colour of each class."""
    swatches = {number: np.full(SWATCH, number, np.uint8) for number in classes}
    return ImageStrip(
        "Classes",
        tuple(Picture(label_map.classes[number], label_map.colour(swatch)) for number, swatch in swatches.items()),
    )
