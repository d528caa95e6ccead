"""PSNR and SSIM in the variants that papers on restoration use; each variant has a name, because they differ.

    PSNR = 10 log10(255^2 / MSE)                                   float64; MSE = 0 gives infinity
    SSIM: Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 2004; 11x11 Gaussian window of sigma 1.5, K = (0.01, 0.03),
          only where the window lies inside the image, mean over the channels
    Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255               BT.601 studio swing, R, G, B in 0..255

Values: "float" keeps what the network says, "uint8" clamps to 0..255 and rounds first. Channel: "rgb" (all channels),
"y" (luma, not rounded, as in BasicSR), "y_rounded" (luma rounded to whole numbers, as in IMDN's script).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64
from skimage.metrics import structural_similarity
from torch import Tensor

from within.core.errors import WithinError

Values = Literal["float", "uint8"]
Channel = Literal["rgb", "y", "y_rounded"]
ImageLike = np.ndarray | Float[Tensor, "channels height width"]

_WINDOW = 11


def psnr(
    prediction: ImageLike,
    target: ImageLike,
    *,
    values: Values = "uint8",
    channel: Channel = "rgb",
    crop_border: int = 0,
) -> float:
    """Peak signal-to-noise ratio in dB.

    Arguments:
        prediction, target: tensors (channels, height, width) in [0, 1], or arrays (height, width[, channels]):
            `uint8`, `uint16`, or floating point in [0, 1].
        values: "float" or "uint8", see above.
        channel: "rgb", "y" or "y_rounded"; gray images have no luma to compute and are taken as they are.
        crop_border: pixels left out on each side.

    Returns:
        The ratio; infinity for equal images, NaN when one holds NaN.

    Raises:
        WithinError: when the shapes differ, or nothing is left inside the border.
    """
    a, b = _prepare(prediction, target, values, channel, crop_border)
    error = float(np.mean((a - b) ** 2))
    if error == 0:
        return math.inf
    return 10 * math.log10(255.0**2 / error)


def ssim(
    prediction: ImageLike,
    target: ImageLike,
    *,
    values: Values = "uint8",
    channel: Channel = "rgb",
    crop_border: int = 0,
) -> float:
    """Structural similarity, at most 1; arguments and errors as for `psnr`.

    Raises:
        WithinError: also when the image inside the border is smaller than the window of 11x11.
    """
    a, b = _prepare(prediction, target, values, channel, crop_border)
    if min(a.shape[:2]) < _WINDOW:
        raise WithinError(f"SSIM needs at least {_WINDOW}x{_WINDOW} pixels inside the border, not {a.shape[:2]}")
    return float(
        structural_similarity(
            a, b, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


@dataclass(frozen=True)
class Metric:
    """A metric with its variant, as an evaluation reports it.

    Attributes:
        kind: "psnr" or "ssim".
        values, channel, crop_border: see `psnr`.
    """

    kind: Literal["psnr", "ssim"] = "psnr"
    values: Values = "uint8"
    channel: Channel = "rgb"
    crop_border: int = 0

    def __call__(self, prediction: ImageLike, target: ImageLike) -> float:
        """Returns the metric of one image."""
        return _METRICS[self.kind](
            prediction, target, values=self.values, channel=self.channel, crop_border=self.crop_border
        )

    @property
    def name(self) -> str:
        """What tables call it, for example `psnr_uint8_y_crop4`."""
        border = f"_crop{self.crop_border}" if self.crop_border else ""
        return f"{self.kind}_{self.values}_{self.channel}{border}"

    @property
    def title(self) -> str:
        """What reports call it, for example `PSNR of luma, 4 pixels of border left out`."""
        plane = {"rgb": "", "y": " of luma", "y_rounded": " of rounded luma"}[self.channel]
        border = f", {self.crop_border} pixels of border left out" if self.crop_border else ""
        return f"{self.kind.upper()}{plane}{'' if self.values == 'uint8' else ', not rounded'}{border}"


_METRICS: Mapping[str, Callable[..., float]] = {"psnr": psnr, "ssim": ssim}


def luma(image: Float64[np.ndarray, "height width 3"]) -> Float64[np.ndarray, "height width 1"]:
    """Returns Y of BT.601 in studio swing (16..235), not rounded, of an RGB image in 0..255."""
    return (image @ np.array([65.481, 128.553, 24.966]) / 255 + 16)[:, :, None]


def _prepare(
    prediction: ImageLike, target: ImageLike, values: Values, channel: Channel, border: int
) -> tuple[
    Float64[np.ndarray, "inner_height inner_width planes"], Float64[np.ndarray, "inner_height inner_width planes"]
]:
    pair = [_to_255(image) for image in (prediction, target)]
    if pair[0].shape != pair[1].shape:
        raise WithinError(
            f"The images differ in shape: {pair[0].shape} and {pair[1].shape} (height, width, channels)",
            todo="compare images of the same size; crop what was padded",
        )
    height, width, channels = pair[0].shape
    if border < 0 or 2 * border >= min(height, width):
        raise WithinError(f"Nothing is left of {height}x{width} pixels inside a border of {border}")
    pair = [image[border : height - border, border : width - border] for image in pair]
    if values == "uint8":
        pair = [np.round(np.clip(image, 0, 255)) for image in pair]
    if channel != "rgb" and channels == 3:
        pair = [luma(image) for image in pair]
        if channel == "y_rounded":
            pair = [np.round(np.clip(image, 0, 255)) for image in pair]
    return pair[0], pair[1]


def _to_255(image: ImageLike) -> Float64[np.ndarray, "height width channels"]:
    array = image.detach().float().cpu().numpy().transpose(1, 2, 0) if isinstance(image, Tensor) else np.asarray(image)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        raise WithinError(f"An image has the shape (height, width, 1 or 3), not {array.shape}")
    if array.dtype == np.uint8:
        return array.astype(np.float64)
    if array.dtype == np.uint16:
        return array.astype(np.float64) / 257
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float64) * 255
    raise WithinError(f"An image holds uint8, uint16 or floating point, not {array.dtype}")
