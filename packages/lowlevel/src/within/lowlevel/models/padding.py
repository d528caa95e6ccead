"""Images of any size for networks that need a multiple: pad below and to the right, restore, crop.

Reflection keeps the statistics of the image at the border; zeros would show there.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError


def pad_to_multiple(
    image: Float[Tensor, "batch channels height width"],
    multiple: int,
    mode: Literal["reflect", "replicate", "constant"] = "reflect",
) -> Float[Tensor, "batch channels padded_height padded_width"]:
    """Returns the image with rows added below and columns added to the right, to multiples of `multiple`.

    A reflection longer than the image goes back and forth in it; a single row or column is repeated.
    """
    for axis in (-2, -1):
        missing = -image.shape[axis] % multiple
        while missing:
            size = image.shape[axis]
            step = min(missing, size - 1) if mode == "reflect" and size > 1 else missing
            along = "replicate" if mode == "reflect" and size == 1 else mode
            image = F.pad(image, (0, 0, 0, step) if axis == -2 else (0, step, 0, 0), mode=along)
            missing -= step
    return image


def crop(
    image: Float[Tensor, "batch channels padded_height padded_width"], height: int, width: int
) -> Float[Tensor, "batch channels height width"]:
    """Returns the upper left `height` x `width` pixels: the inverse of `pad_to_multiple`."""
    return image[..., :height, :width]


def restore(
    model: nn.Module,
    image: Float[Tensor, "batch channels height width"],
    *others: Tensor,
    mode: Literal["reflect", "replicate", "constant"] = "reflect",
) -> Float[Tensor, "batch channels out_height out_width"]:
    """Returns `model(image, *others)` for an image of any size, without gradients: pads, runs, crops.

    The network's `size_multiple` and `scale` (both 1 where absent) say how.
    """
    height, width = image.shape[-2:]
    padded = pad_to_multiple(image, getattr(model, "size_multiple", 1), mode)
    with torch.no_grad():
        output = model(padded, *others)
    scale = getattr(model, "scale", 1)
    return crop(output, height * scale, width * scale)


def check_size(model: nn.Module, height: int, width: int) -> None:
    """Raises a WithinError where `model` cannot take a `height` x `width` image without padding."""
    multiple = getattr(model, "size_multiple", 1)
    if height % multiple or width % multiple:
        raise WithinError(
            f"{type(model).__name__} takes sizes that are multiples of {multiple}, not {height} x {width}",
            todo=f"pad to {height + -height % multiple} x {width + -width % multiple} with pad_to_multiple and crop "
            "the output, or use restore, which does both",
        )
