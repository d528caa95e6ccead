"""Evaluate a restoration network on a data set; `protocols` has those of the published tables.

An image is padded to the multiple that the network needs, restored, and cropped back (`models.padding`). The output is
clamped to [0, 1] before any metric.

Self-ensemble (Lim et al., EDSR, CVPRW 2017): the mean over the eight flips and rotations, each turned back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError
from within.core.progress import track
from within.lowlevel.data.images import to_image, write_image
from within.lowlevel.metrics import Metric
from within.lowlevel.models.padding import crop, pad_to_multiple

Forward = Callable[[Float[Tensor, "batch channels height width"]], Float[Tensor, "batch channels out_height out_width"]]

PSNR = Metric("psnr")
SSIM = Metric("ssim")


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics of every image, and their means.

    Attributes:
        metrics: names of the metrics, the columns.
        images: one value a metric for each image, by the image's name.
    """

    metrics: tuple[str, ...]
    images: Mapping[str, tuple[float, ...]]

    @property
    def mean(self) -> dict[str, float]:
        """The arithmetic mean over the images, by metric; infinite if one image is."""
        columns = zip(*self.images.values(), strict=True)
        return {name: float(np.mean(column)) for name, column in zip(self.metrics, columns, strict=True)}

    def table(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Returns (columns, rows): a row for each image, the means last."""
        rows: list[tuple[Any, ...]] = [(name, *values) for name, values in self.images.items()]
        return ("image", *self.metrics), [*rows, (f"mean of {len(rows)}", *self.mean.values())]

    def to_json(self) -> dict[str, Any]:
        """Returns plain values; infinity and NaN as strings, because JSON has none."""

        def plain(value: float) -> float | str:
            return value if np.isfinite(value) else str(value)

        return {
            "mean": {name: plain(value) for name, value in self.mean.items()},
            "images": {
                image: {name: plain(value) for name, value in zip(self.metrics, values, strict=True)}
                for image, values in self.images.items()
            },
        }


def evaluate(
    model: nn.Module,
    dataset: Iterable[Mapping[str, Any]],
    metrics: Sequence[Metric] = (PSNR, SSIM),
    *,
    self_ensemble: bool = False,
    forward: Forward | None = None,
    save_folder: str | Path | None = None,
    device: str | torch.device = "cpu",
) -> EvaluationResult:
    """Restores every image of a data set and measures it against the ground truth.

    Arguments:
        model: the network; it is put into `eval` mode for the time of the call. Its attribute `size_multiple`, if
            there is one, says to which multiple images are padded.
        dataset: items {"lq", "gt", "name"}, see `data.folders`.
        metrics: with their variants; two of one name are one.
        self_ensemble: average over the eight flips and rotations.
        forward: what to run instead of the model on a padded batch of one, for example a tiled execution of it.
        save_folder: where to write the restored images, as PNG.
        device: where the model runs; it is moved there.

    Raises:
        WithinError: when the network cannot take an image or returns something that is no image of the right size, or
            holds NaN or infinity; with the image's name.
    """
    metrics = list({metric.name: metric for metric in metrics}.values())
    images: dict[str, tuple[float, ...]] = {}
    training = model.training
    model.to(device).eval()
    try:
        for item in track(dataset, "evaluating", total=len(dataset) if hasattr(dataset, "__len__") else None):
            name, gt = str(item["name"]), item["gt"]
            try:
                restored = restore(model, item["lq"].to(device), self_ensemble=self_ensemble, forward=forward).cpu()
            except RuntimeError as error:
                raise WithinError(
                    f"The network cannot take an image of {tuple(item['lq'].shape)} (channels, height, width): {error}",
                    where=name,
                    todo="check the number of channels, the weights, and the network's size_multiple",
                ) from error
            _check_output(restored, gt, name)
            restored = restored.clamp(0, 1)
            images[name] = tuple(metric(restored, gt) for metric in metrics)
            if save_folder is not None:
                write_image(Path(save_folder) / f"{Path(name).stem}.png", to_image(restored))
    finally:
        model.train(training)
    if not images:
        raise WithinError("The data set is empty", where="evaluate")
    return EvaluationResult(tuple(metric.name for metric in metrics), images)


def restore(
    model: nn.Module,
    image: Float[Tensor, "channels height width"],
    *,
    self_ensemble: bool = False,
    forward: Forward | None = None,
) -> Float[Tensor, "channels out_height out_width"]:
    """Runs the network on one image: pad, forward, crop; the result is not clamped.

    Arguments:
        model, self_ensemble, forward: see `evaluate`.
        image: in [0, 1], on the model's device.
    """
    with torch.inference_mode():
        if not self_ensemble:
            return _restore_once(model, image, forward)
        outputs = []
        for turns in range(4):
            for flipped in (False, True):
                turned = torch.rot90(image, turns, (1, 2))
                turned = turned.flip(2) if flipped else turned
                output = _restore_once(model, turned, forward)
                output = output.flip(2) if flipped else output
                outputs.append(torch.rot90(output, -turns, (1, 2)))
        return torch.stack(outputs).mean(dim=0)


def _restore_once(model: nn.Module, image: Tensor, forward: Forward | None) -> Tensor:
    height, width = image.shape[1:]
    batch = pad_to_multiple(image[None], getattr(model, "size_multiple", 1))
    output = (forward or model)(batch.contiguous())
    scale = output.shape[2] / batch.shape[2]
    return crop(output, round(height * scale), round(width * scale))[0]


def _check_output(restored: Tensor, gt: Tensor, name: str) -> None:
    if restored.shape != gt.shape:
        raise WithinError(
            f"The network returns {tuple(restored.shape)} where the ground truth is {tuple(gt.shape)} "
            "(channels, height, width)",
            where=name,
            todo="check the scale of the network and of the data",
        )
    if not bool(torch.isfinite(restored).all()):
        raise WithinError(
            "The network returns NaN or infinity", where=name, todo="check its weights; one of them may be NaN"
        )
