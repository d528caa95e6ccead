"""Read photographs and label images as they lie in data sets: 8-bit RGB in, numbers of classes in.

A label image is a PNG whose pixels are numbers: gray levels, or indices into a palette that only gives them colours. A
label saved as RGB holds colours instead; two classes can share one, so it is refused rather than guessed. The
orientation that a camera notes beside the pixels is not applied, since labels are drawn on the pixels as stored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from PIL import Image
from torch import Tensor

from within.core.errors import WithinError

_WHOLE_NUMBERS = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


def read_image(path: str | Path) -> UInt8[Tensor, "3 height width"]:
    """Returns a photograph as RGB, 0..255; gray is repeated, alpha dropped.

    Raises:
        WithinError: when the file is missing, truncated, damaged or no image, with its path.
    """
    return torch.from_numpy(np.array(_decode(Path(path), rgb=True))).permute(2, 0, 1).contiguous()


def read_label_ids(path: str | Path) -> Integer[np.ndarray, "height width"]:
    """Returns the numbers that a label image holds, not yet brought to classes.

    Raises:
        WithinError: when the file is missing, damaged, or holds colours or fractions instead of whole numbers.
    """
    image = _decode(Path(path), rgb=False)
    if image.mode not in _WHOLE_NUMBERS:
        raise WithinError(
            f"The label is a picture of the kind {image.mode}, where each pixel should be one whole number",
            where=str(path),
            todo="use the label files with class ids (gray or palette PNG; for Cityscapes *_gtFine_labelIds.png, not "
            "*_color.png), or convert the colours to ids with the data set's own list of colours",
        )
    array = np.array(image)
    return array.astype(np.uint8) if array.dtype == bool else array


def _decode(path: Path, *, rgb: bool) -> Image.Image:
    try:
        with Image.open(path) as opened:
            opened.load()
            return opened.convert("RGB") if rgb and opened.mode != "RGB" else opened.copy()
    except FileNotFoundError as error:
        raise WithinError("The image does not exist", where=str(path)) from error
    except Exception as error:  # decoders report damaged files with many kinds of error
        raise WithinError(
            f"The file is truncated, damaged or not an image ({type(error).__name__}: {error})",
            where=str(path),
            todo="fetch the file again; a file of a few hundred bytes of text is a Git LFS pointer",
        ) from error
