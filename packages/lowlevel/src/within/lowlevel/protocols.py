"""The protocols by which published tables of denoising and super-resolution were measured, by name.

Seemingly small choices move the figures by more than the differences between papers: clipped noise or not, rounded luma
or not, the border left out. A protocol fixes all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from within.core.errors import WithinError
from within.lowlevel.data.degradations import BicubicDownscale, Degradation, GaussianNoise
from within.lowlevel.data.folders import DegradedImages, PairedImages, open_pair, open_source
from within.lowlevel.data.images import Color
from within.lowlevel.metrics import Channel, Metric

_KINDS: tuple[Literal["psnr", "ssim"], ...] = ("psnr", "ssim")


@dataclass(frozen=True)
class Protocol:
    """How a row of a published table was measured.

    Attributes:
        name: what `run_protocol` calls it.
        description: data, degradation and metric in words.
        color: what the images are converted to.
        metrics: the variants to report, the one that the table quotes first.
        degradation: made from the ground truth; None when the degraded images are files.
        scale: of super-resolution.
        filename_template: of the degraded files.
    """

    name: str
    description: str
    color: Color
    metrics: tuple[Metric, ...]
    degradation: Degradation | None = None
    scale: int = 1
    filename_template: str = "{}"

    def dataset(
        self, dataroot_gt: str | Path, dataroot_lq: str | Path | None = None, *, skip_bad: bool = False
    ) -> PairedImages | DegradedImages:
        """Opens the folders of the protocol.

        Raises:
            WithinError: when the protocol needs `dataroot_lq` and there is none, and as the data sets do.
        """
        if self.degradation is not None:
            source = open_source(dataroot_gt, skip_bad=skip_bad)
            return DegradedImages(source, self.degradation, color=self.color)
        if dataroot_lq is None:
            raise WithinError(
                f"The protocol {self.name!r} needs a folder of degraded images", where="dataroot_lq", todo="give one"
            )
        return open_pair(
            dataroot_gt,
            dataroot_lq,
            scale=self.scale,
            filename_template=self.filename_template,
            color=self.color,
            skip_bad=skip_bad,
        )


def _gray_noise(images: str, sigma: int) -> Protocol:
    return Protocol(
        f"{images}_sigma{sigma}_kair",
        f"{images}, gray, Gaussian noise of sigma {sigma} seeded with 0 before every image, not clipped",
        "gray",
        (Metric("psnr", "float"), Metric("psnr", "uint8"), Metric("ssim", "uint8")),
        GaussianNoise(sigma, "kair"),
    )


def _super_resolution(images: str, scale: int) -> Protocol:
    y, y_rounded, rgb = (Metric("psnr", "uint8", channel, scale) for channel in ("y", "y_rounded", "rgb"))
    return Protocol(
        f"{images}_x{scale}_y",
        f"{images}, MATLAB bicubic x{scale}, luma, {scale} pixels of border left out",
        "rgb",
        (y, y_rounded, rgb, Metric("ssim", "uint8", "y", scale)),
        scale=scale,
        filename_template=f"{{}}x{scale}",
    )


def _kodak() -> Protocol:
    return Protocol(
        "kodak24_n2n",
        "Kodak, RGB, Gaussian noise of sigma 25 seeded with 0 before every image, clipped and cut to uint8",
        "rgb",
        (Metric("psnr", "uint8"), Metric("psnr", "float"), Metric("ssim", "uint8")),
        GaussianNoise(25, "n2n"),
    )


def _paired() -> Protocol:
    return Protocol(
        "paired_rgb",
        "photographs in pairs of equal names, RGB",
        "rgb",
        (Metric("psnr", "uint8"), Metric("ssim", "uint8")),
    )


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        *(_gray_noise(images, sigma) for images in ("set12", "bsd68") for sigma in (15, 25, 50)),
        *(_super_resolution(images, scale) for images in ("set5", "set14", "b100", "urban100") for scale in (2, 3, 4)),
        _kodak(),
        _paired(),
    )
}


def find_protocol(name: str) -> Protocol:
    """Returns a protocol by name.

    Raises:
        WithinError: when there is none of that name; lists them.
    """
    if name not in PROTOCOLS:
        raise WithinError(f"There is no protocol named {name!r}", todo=f"choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def usual_protocol(
    *,
    channels: int,
    scale: int = 1,
    sigma: float | None = None,
    paired: bool = False,
    filename_template: str = "{}",
) -> Protocol:
    """Returns how a network is usually measured on images that belong to no published table.

    Arguments:
        channels: of the network's input, 1 or 3.
        scale: of super-resolution; above 1 the metrics are those of its tables.
        sigma: of Gaussian noise to be added.
        paired: whether there are degraded files; otherwise they are made, with noise or by MATLAB's bicubic.
        filename_template: of the degraded files.

    Raises:
        WithinError: when nothing says where degraded images come from, or two things do.
    """
    if paired and sigma is not None:
        raise WithinError("Noise is not added to images that are degraded already", todo="give sigma or data_lq")
    degradation: Degradation | None = None
    if sigma is not None:
        degradation = GaussianNoise(sigma, "kair")
    elif scale > 1 and not paired:
        degradation = BicubicDownscale(scale)
    elif not paired:
        raise WithinError(
            "Nothing says what the network is to restore",
            todo="give sigma (Gaussian noise is added), or data_lq (a folder of degraded images)",
        )
    channel: Channel = "y" if scale > 1 else "rgb"
    border = scale if scale > 1 else 0
    return Protocol(
        "usual",
        "the images as they are",
        "gray" if channels == 1 else "rgb",
        tuple(Metric(kind, "uint8", channel, border) for kind in _KINDS),
        degradation,
        scale,
        filename_template,
    )
