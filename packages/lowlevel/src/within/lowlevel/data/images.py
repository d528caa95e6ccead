"""Read and write images as plain arrays: PNG, JPEG, BMP, TIFF and PPM, 8 and 16 bit, gray and RGB.

An image is a `uint8` or `uint16` array of shape (height, width, channels) with 1 or 3 channels; a network sees it as a
`float32` tensor of shape (channels, height, width) in [0, 1]. Pillow decodes everything except RGB at 16 bits, which
it would cut to 8 bits without a word; `deep_rgb` decodes that.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from PIL import Image, ImageOps
from torch import Tensor

from within.core.errors import WithinError
from within.core.files import atomic_write
from within.lowlevel.data import deep_rgb

ImageArray = UInt8[np.ndarray, "height width channels"] | UInt16[np.ndarray, "height width channels"]
Color = Literal["gray", "rgb"]

_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pnm": "PPM",
}
SUFFIXES = tuple(_FORMATS)


def read_image(source: str | Path | bytes, *, color: Color | None = None, name: str | None = None) -> ImageArray:
    """Reads one image.

    Arguments:
        source: a file, or the encoded bytes of one.
        color: "gray" or "rgb" converts; None keeps what the file holds. A palette becomes RGB, alpha is dropped, and
            the orientation that a camera wrote beside the pixels is applied.
        name: what errors call the image; the path by default.

    Returns:
        An array of shape (height, width, 1 or 3), `uint8` or `uint16` as in the file.

    Raises:
        WithinError: when the file is missing, truncated, damaged or no image, with its name.
    """
    where = name or (str(source) if not isinstance(source, bytes) else "encoded image")
    data = source if isinstance(source, bytes) else _read_bytes(Path(source))
    try:
        image = deep_rgb.decode(data)
        if image is None:
            with Image.open(io.BytesIO(data)) as opened:
                opened.load()
                image = _to_array(ImageOps.exif_transpose(opened))
    except WithinError as error:
        raise WithinError(error.what, where=where, todo=error.todo) from error
    except Exception as error:  # decoders report damaged files with many kinds of error
        raise _unreadable(where, error) from error
    return convert_color(image, color) if color else image


def write_image(path: str | Path, image: np.ndarray, *, quality: int = 95) -> None:
    """Writes one image; the file appears whole or not at all.

    Arguments:
        path: the file; its suffix says the format.
        image: (height, width, 1 or 3), `uint8` or `uint16`.
        quality: of JPEG.

    Raises:
        WithinError: when the array is no image, the format is unknown or cannot hold 16 bits, or the disk is full.
    """
    target = Path(path)
    kind = _FORMATS.get(target.suffix.lower())
    if kind is None:
        raise WithinError(
            f"There is no image format for the suffix {target.suffix!r}",
            where=str(target),
            todo=f"use one of {', '.join(SUFFIXES)}",
        )
    check_image(image, str(target))
    deep = image.dtype == np.uint16
    if deep and kind in ("JPEG", "BMP"):
        raise WithinError(f"{kind} cannot hold 16 bits", where=str(target), todo="write .png, .tiff or .ppm")
    with atomic_write(target) as temporary:
        if deep and image.shape[2] == 3:
            temporary.write_bytes(deep_rgb.encode(image, kind))
        else:
            squeezed = image[:, :, 0] if image.shape[2] == 1 else image
            options = {"quality": quality} if kind == "JPEG" else {}
            Image.fromarray(np.ascontiguousarray(squeezed)).save(temporary, format=kind, **options)


def image_size(source: str | Path | bytes, *, name: str | None = None) -> tuple[int, int]:
    """Returns (height, width) from the header of a file or of its encoded bytes, without decoding the pixels.

    Raises:
        WithinError: when it cannot be opened as an image; it is called `name`, or by its path.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
            width, height = opened.size
            turned = opened.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 swap the axes
    except Exception as error:
        where = name or ("encoded image" if isinstance(source, bytes) else str(source))
        raise _unreadable(where, error) from error
    return (width, height) if turned else (height, width)


def check_image(image: np.ndarray, where: str) -> None:
    """Refuses arrays that are not images as this module defines them.

    Raises:
        WithinError: naming the shape or dtype found.
    """
    if image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise WithinError(f"An image has the shape (height, width, 1 or 3), not {image.shape}", where=where)
    if image.dtype not in (np.uint8, np.uint16):
        raise WithinError(f"An image holds uint8 or uint16, not {image.dtype}", where=where)


def convert_color(
    image: ImageArray, color: Color
) -> UInt8[np.ndarray, "height width out_channels"] | UInt16[np.ndarray, "height width out_channels"]:
    """Returns the image as gray (luma of BT.601, rounded) or RGB (gray repeated); unchanged if it already is."""
    if color == "rgb":
        return image if image.shape[2] == 3 else np.repeat(image, 3, axis=2)
    if image.shape[2] == 1:
        return image
    luma = image.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return np.floor(luma + 0.5).astype(image.dtype)[:, :, None]


def to_tensor(image: ImageArray | Float[np.ndarray, "height width channels"]) -> Float[Tensor, "channels height width"]:
    """Returns a `float32` tensor; integers are scaled to [0, 1], floats are taken as they are."""
    array = np.ascontiguousarray(image.transpose(2, 0, 1))
    if array.dtype == np.uint8:
        return torch.from_numpy(array).float().div_(255.0)
    if array.dtype == np.uint16:
        return torch.from_numpy(array.astype(np.float32)).div_(65535.0)
    return torch.from_numpy(array.astype(np.float32))


def to_image(
    tensor: Float[Tensor, "channels height width"], *, depth: Literal[8, 16] = 8
) -> UInt8[np.ndarray, "height width channels"] | UInt16[np.ndarray, "height width channels"]:
    """Returns the tensor clamped to [0, 1], scaled to the largest integer of `depth` bits, and rounded."""
    largest = 2**depth - 1
    array = tensor.detach().float().cpu().clamp(0, 1).mul(largest).round().numpy().transpose(1, 2, 0)
    return np.ascontiguousarray(array.astype(np.uint8 if depth == 8 else np.uint16))


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WithinError(f"Could not read the image: {error.strerror or error}", where=str(path)) from error


def _unreadable(where: str, error: Exception) -> WithinError:
    return WithinError(
        f"The file is truncated, damaged or not an image ({type(error).__name__}: {error})",
        where=where,
        todo="replace or remove the file, or skip unreadable files",
    )


def _to_array(opened: Image.Image) -> ImageArray:
    if opened.mode in ("I;16", "I;16B", "I;16L", "I"):
        array = np.asarray(opened)
        if array.min() < 0 or array.max() > 65535:
            raise WithinError("The image holds integers beyond 16 bits", todo="save it with 8 or 16 bits")
        return array.astype(np.uint16)[:, :, None]
    if opened.mode == "F":
        raise WithinError("The image holds floating-point pixels", todo="save it with 8 or 16 bits")
    gray = opened.mode in ("1", "L", "LA", "La")
    array = np.array(opened.convert("L" if gray else "RGB"))
    return array[:, :, None] if gray else array
