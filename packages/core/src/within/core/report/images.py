"""Sample images: PNG files as data URIs, and pictures of the difference between two images."""

from __future__ import annotations

import base64
import io

import numpy as np
from jaxtyping import UInt8

from within.core.report.content import Picture


def png(pixels: UInt8[np.ndarray, "height width *channels"]) -> bytes:
    """Returns a PNG file, byte for byte the same for the same pixels.

    Raises:
        ValueError: when the array is not uint8 of shape (height, width) or (height, width, 3).
    """
    from matplotlib.image import imsave

    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)):
        raise ValueError(f"a picture is uint8 (height, width[, 3]); got {pixels.dtype} {pixels.shape}")
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        pixels = np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    buffer = io.BytesIO()
    imsave(buffer, np.ascontiguousarray(pixels), format="png", metadata={"Software": "within"})
    return buffer.getvalue()


def data_uri(pixels: UInt8[np.ndarray, "height width *channels"]) -> str:
    """Returns the picture as a `data:` address that a page can hold."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode("ascii")


def difference_picture(
    first: UInt8[np.ndarray, "height width *channels"],
    second: UInt8[np.ndarray, "height width *channels"],
    gain: float = 8.0,
    caption: str | None = None,
) -> Picture:
    """Returns |first - second|, brightened by `gain` and clipped, with the gain in the caption.

    Raises:
        ValueError: when the images differ in shape.
    """
    if first.shape != second.shape:
        raise ValueError(f"the images differ in shape: {first.shape} and {second.shape}")
    absolute = np.abs(first.astype(np.int16) - second.astype(np.int16)).astype(np.float32)
    brightened = np.clip(np.rint(absolute * gain), 0, 255).astype(np.uint8)
    return Picture(caption or f"difference, {gain:g}\N{MULTIPLICATION SIGN}", brightened)
