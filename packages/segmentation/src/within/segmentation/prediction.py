"""Class scores of an image of any size: padded to what the network needs, at a working size of its own where asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from within.core.device.inference import device_of
from within.core.errors import WithinError
from within.segmentation.models.norm_relu_conv import resize

Forward = Callable[[Tensor], Tensor]


def class_scores(
    forward: nn.Module | Forward,
    image: Float[Tensor, "batch 3 height width"],
    *,
    size: tuple[int, int] | None = None,
    multiple: int | None = None,
) -> Float[Tensor, "batch classes height width"]:
    """Returns class scores at the size of the image.

    Arguments:
        forward: a network in `eval` mode, or what runs one.
        image: RGB in 0..255; it goes where the network is.
        size: height and width at which the network works; the image is resized to it, the scores are resized back.
        multiple: of the sides that the network takes, by default its `size_multiple`; sides are extended below and
            right by the last row and column, and the scores cut off again.

    Raises:
        WithinError: when the scores are NaN or infinite, or not of the size of what went in.
    """
    height, width = image.shape[-2:]
    image = image.to(device_of(forward))
    given = image if size is None or size == (height, width) else _resized(image, size)
    rows, columns = given.shape[-2:]
    step = int(getattr(forward, "size_multiple", 1)) if multiple is None else multiple
    below, right = -rows % step, -columns % step
    padded = F.pad(given, (0, right, 0, below), mode="replicate") if below or right else given
    scores = forward(padded)
    if scores.shape[-2:] != padded.shape[-2:]:
        raise WithinError(
            f"The network returns scores of {tuple(scores.shape[-2:])} for an image of {tuple(padded.shape[-2:])}",
            todo="the network should resize its scores to the image",
        )
    if not bool(torch.isfinite(scores).all()):
        raise WithinError("The network returns NaN or infinity", todo="check its weights; one of them may be NaN")
    scores = scores[..., :rows, :columns]
    return scores if (rows, columns) == (height, width) else resize(scores, (height, width))


def predict(
    forward: nn.Module | Forward,
    image: Float[Tensor, "batch 3 height width"],
    *,
    size: tuple[int, int] | None = None,
    multiple: int | None = None,
) -> Int64[Tensor, "batch height width"]:
    """Returns the class of every pixel; arguments and errors as for `class_scores`."""
    with torch.no_grad():
        return class_scores(forward, image, size=size, multiple=multiple).argmax(1)


def height_width(size: Sequence[int] | None) -> tuple[int, int] | None:
    """Returns a size from a configuration.

    Raises:
        WithinError: when it is not two positive numbers.
    """
    if size is None:
        return None
    if len(size) != 2 or min(size) < 1:
        raise WithinError(f"size is {size!r}", todo="give (height, width)")
    return int(size[0]), int(size[1])


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
