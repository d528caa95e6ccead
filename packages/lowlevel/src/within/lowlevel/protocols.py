"""The protocols by which published tables of denoising and super-resolution were measured, by name.

Seemingly small choices move the figures by more than the differences between papers: clipped noise or not, rounded luma
or not, the border left out. A protocol fixes all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from within.core.errors import WithinError
from within.lowlevel.data.degradations import Degradation, GaussianNoise
from within.lowlevel.data.folders import DegradedImages, PairedImages, open_pair, open_source
from within.lowlevel.data.images import Color
from within.lowlevel.eval import EvaluationResult, evaluate
from within.lowlevel.metrics import Metric


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


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        *(_gray_noise(images, sigma) for images in ("set12", "bsd68") for sigma in (15, 25, 50)),
        *(_super_resolution(images, scale) for images in ("set5", "set14", "b100", "urban100") for scale in (2, 3, 4)),
        _kodak(),
    )
}


def run_protocol(
    name: str,
    model: nn.Module,
    dataroot_gt: str | Path,
    dataroot_lq: str | Path | None = None,
    *,
    skip_bad: bool = False,
    **options: Any,
) -> EvaluationResult:
    """Evaluates a network by a named protocol.

    Arguments:
        name: one of `PROTOCOLS`.
        model: the network.
        dataroot_gt, dataroot_lq: folders; the second one for super-resolution only.
        skip_bad: leave out files that cannot be read, with a warning.
        options: see `evaluate`.

    Raises:
        WithinError: when there is no such protocol, and as `evaluate` and the data sets do.
    """
    if name not in PROTOCOLS:
        raise WithinError(f"There is no protocol named {name!r}", todo=f"choose one of {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[name]
    return evaluate(model, protocol.dataset(dataroot_gt, dataroot_lq, skip_bad=skip_bad), protocol.metrics, **options)
