"""Bicubic resizing as MATLAB's `imresize` does it, which is how the public low-resolution test images were made.

Keys' cubic kernel with a = -0.5; for a scale s < 1 it is widened by 1/s (antialiasing). Output pixel x (from 1) lies
at u = x/s + (1 - 1/s)/2 of the input; pixels beyond the border are mirrored, the border pixel included. Height comes
first, then width. On `uint8` images MATLAB rounds after each of the two passes (half away from zero); BasicSR's
version works in floating point throughout, which differs by up to 2 grey levels.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Float, Integer

from within.core.errors import WithinError


def imresize(image: np.ndarray, scale: float, *, variant: Literal["matlab", "basicsr"] = "matlab") -> np.ndarray:
    """Resizes an image.

    Arguments:
        image: (height, width, channels), `uint8`, `uint16` or floating point.
        scale: output size over input size; the output is ceil(scale * size).
        variant: "matlab" rounds integer images to their type after each pass; "basicsr" never rounds and returns
            floating point (integers keep their range, 0..255 or 0..65535).

    Returns:
        (ceil(scale * height), ceil(scale * width), channels), of the input's type ("matlab") or `float64`.

    Raises:
        WithinError: when the scale is not positive.
    """
    if not scale > 0 or not math.isfinite(scale):
        raise WithinError(f"The scale must be positive, not {scale}", where="imresize")
    rounded = variant == "matlab" and np.issubdtype(image.dtype, np.integer)
    result = image.astype(np.float64)
    for axis in (0, 1):
        weights, indices = _contributions(image.shape[axis], scale)
        moved = np.moveaxis(result, axis, 0)
        summed = np.zeros((len(weights), *moved.shape[1:]))
        for tap in range(weights.shape[1]):
            summed += weights[:, tap, None, None] * moved[indices[:, tap]]
        result = np.moveaxis(summed, 0, axis)
        if rounded:
            result = np.clip(np.floor(result + 0.5), 0, np.iinfo(image.dtype).max)
    if variant == "basicsr":
        return result
    return result.astype(image.dtype)


def modcrop(image: np.ndarray, multiple: int) -> np.ndarray:
    """Cuts rows at the bottom and columns at the right until height and width are multiples of `multiple`.

    Raises:
        WithinError: when nothing would be left.
    """
    height, width = image.shape[0] // multiple * multiple, image.shape[1] // multiple * multiple
    if height == 0 or width == 0:
        raise WithinError(f"An image of {image.shape[0]}x{image.shape[1]} pixels is smaller than {multiple}x{multiple}")
    return image[:height, :width]


def _contributions(length: int, scale: float) -> tuple[Float[np.ndarray, "out taps"], Integer[np.ndarray, "out taps"]]:
    """Returns weights and (mirrored) input indices of each output pixel along one axis."""
    shrink = min(scale, 1.0)
    support = 4.0 / shrink
    out = math.ceil(round(length * scale, 9))  # 9 decimals: 12 * (1/3) is 4, not 5
    center = np.arange(1, out + 1) / scale + 0.5 * (1 - 1 / scale)
    left = np.floor(center - support / 2)
    indices = left[:, None] + np.arange(math.ceil(support) + 2)
    weights = shrink * _cubic(shrink * (center[:, None] - indices))
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    indices = mirrored[(indices.astype(np.int64) - 1) % (2 * length)]
    used = np.any(weights != 0, axis=0)
    return weights[:, used], indices[:, used]


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return near * (x <= 1) + far * ((x > 1) & (x <= 2))
