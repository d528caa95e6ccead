"""Random flips, crops, scales and brightness of an image together with its label; all randomness from one generator.

    s ~ U(scale);  box = int(s * size);  a place uniform in the image;  box -> size

Crop and scale of SwiftNet (Orsic et al., CVPR 2019): where the box is larger than the image, the rest is the mean
colour and void. Images are resized with the bicubic kernel (a = -1/2), widened when it shrinks them, as Pillow does,
labels to the nearest pixel centre, so both stay aligned to the half pixel. Both are `uint8` and on the CPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from within.core.errors import WithinError

Image = UInt8[Tensor, "3 height width"]
Label = UInt8[Tensor, "label_height label_width"]
Crop = UInt8[Tensor, "3 crop_height crop_width"]
CropLabel = UInt8[Tensor, "crop_height crop_width"]

MEAN_COLOUR = (73.15, 82.90, 72.3)  # of Cityscapes, as SwiftNet subtracts it
LUMA = (0.299, 0.587, 0.114)  # gray of red, green and blue: ITU-R BT.601


def random_horizontal_flip(image: Image, label: Label, generator: torch.Generator) -> tuple[Image, Label]:
    """Returns both mirrored left to right with probability 1/2, else as they are."""
    if _uniform(generator, 0, 1) < 0.5:
        return image, label
    return image.flip(-1), label.flip(-1)


def random_square_crop_and_scale(
    image: Image,
    label: Label,
    generator: torch.Generator,
    *,
    size: int,
    scale: tuple[float, float] = (0.5, 2.0),
    mean: tuple[float, float, float] = MEAN_COLOUR,
    ignore: int = 255,
) -> tuple[Crop, CropLabel]:
    """Returns `random_crop_and_scale` with height and width `size`."""
    return random_crop_and_scale(image, label, generator, size=(size, size), scale=scale, mean=mean, ignore=ignore)


def random_crop_and_scale(
    image: Image,
    label: Label,
    generator: torch.Generator,
    *,
    size: tuple[int, int],
    scale: tuple[float, float] = (0.5, 2.0),
    mean: tuple[float, float, float] = MEAN_COLOUR,
    ignore: int = 255,
) -> tuple[Crop, CropLabel]:
    """Returns a random box of image and label, resized to `size`.

    Arguments:
        image, label: of equal height and width.
        generator: draws the scale, then the place.
        size: (height, width) of the result.
        scale: range of s; the box has int(s * height) x int(s * width) pixels, so s > 1 shrinks what it shows.
        mean: colour where the box reaches over the image (0..255); the image lies in the upper left corner.
        ignore: label there.

    Raises:
        WithinError: when the sizes differ, or the range of scales leaves no box.
    """
    if image.shape[1:] != label.shape:
        raise WithinError(f"Image and label differ in size: {tuple(image.shape[1:])} and {tuple(label.shape)}")
    check_crop(size, scale)
    s = _uniform(generator, *scale)
    box = [int(s * length) for length in size]
    starts = [_start(generator, length, whole) for length, whole in zip(box, label.shape)]
    rows, columns = (slice(start, start + length) for start, length in zip(starts, box))
    image, label = image[:, rows, columns], label[rows, columns]
    missing = [length - there for length, there in zip(box, label.shape)]
    if any(missing):
        image, label = _padded(image, label, missing, mean, ignore)
    if tuple(box) != tuple(size):
        image = F.interpolate(image[None], size=size, mode="bicubic", antialias=True)[0]  # uint8: rounded and clamped
        label = F.interpolate(label[None, None], size=size, mode="nearest-exact")[0, 0]
    return image.contiguous(), label.contiguous()


def random_brightness(
    images: Float[Tensor, "batch 3 height width"], generator: torch.Generator, *, strength: float
) -> Float[Tensor, "batch 3 height width"]:
    """Returns each image times a factor ~ U(1 - strength, 1 + strength), clamped to 0..255."""
    factors = torch.rand(len(images), 1, 1, 1, generator=generator).mul_(2).sub_(1).mul_(strength).add_(1)
    return (images * factors).clamp_(0, 255)


def random_colour(
    images: Float[Tensor, "batch 3 height width"], generator: torch.Generator, *, strength: float
) -> Float[Tensor, "batch 3 height width"]:
    """Returns each image with its contrast and its saturation times factors ~ U(1 - strength, 1 + strength).

    Contrast is the distance from the image's mean gray, saturation that from each pixel's own gray; clamped to 0..255.
    """
    contrast, saturation = (
        torch.rand(2, len(images), 1, 1, 1, generator=generator).mul_(2).sub_(1).mul_(strength).add_(1)
    )
    gray = (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    mean = gray.mean((2, 3), keepdim=True)
    coloured = gray + (images - gray) * saturation
    return (mean + (coloured - mean) * contrast).clamp_(0, 255)


def check_crop(size: tuple[int, int], scale: tuple[float, float]) -> None:
    """Refuses crops without pixels.

    Raises:
        WithinError: when the range of scales is empty or its smallest box is.
    """
    if not 0 < scale[0] <= scale[1] or int(scale[0] * min(size)) < 1:
        raise WithinError(
            f"Crops of {size[0]}x{size[1]} at scales {scale[0]} to {scale[1]} are not possible",
            where="size and scale of the crops",
            todo="use positive sizes, and scales in ascending order such as (0.5, 2)",
        )


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _start(generator: torch.Generator, length: int, whole: int) -> int:
    return int(torch.randint(max(length, whole) - length + 1, (), generator=generator))


def _padded(
    image: Image, label: Label, missing: list[int], mean: tuple[float, float, float], ignore: int
) -> tuple[Tensor, Tensor]:
    height, width = (there + more for there, more in zip(label.shape, missing))
    canvas = torch.tensor(mean).round_().to(torch.uint8)[:, None, None].repeat(1, height, width)
    canvas[:, : image.shape[1], : image.shape[2]] = image
    return canvas, F.pad(label, (0, missing[1], 0, missing[0]), value=ignore)
