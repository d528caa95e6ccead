"""Evaluate a restoration network on a data set; `protocols` has those of the published tables.

An image is padded to the multiple that the network needs, restored, and cropped back (`models.padding`). The output is
clamped to [0, 1] before any metric.

Self-ensemble (Lim et al., EDSR, CVPRW 2017): the mean over the eight flips and rotations, each turned back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
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
from within.lowlevel.models import build, crop, pad_to_multiple, variant
from within.lowlevel.protocols import find_protocol, usual_protocol
from within.lowlevel.weights import load_weights

Forward = Callable[
    [Float[Tensor, "batch channels height width"]], Float[Tensor, "batch out_channels out_height out_width"]
]

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
        for item in track(dataset, "evaluating", total=len(dataset) if isinstance(dataset, Sized) else None):
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
        name: one of `protocols.PROTOCOLS`.
        model: the network.
        dataroot_gt, dataroot_lq: folders; the second one for super-resolution only.
        skip_bad: leave out files that cannot be read, with a warning.
        options: see `evaluate`.

    Raises:
        WithinError: when there is no such protocol, and as `evaluate` and the data sets do.
    """
    protocol = find_protocol(name)
    return evaluate(model, protocol.dataset(dataroot_gt, dataroot_lq, skip_bad=skip_bad), protocol.metrics, **options)


def main(config: Mapping[str, Any]) -> EvaluationResult:
    """Evaluates published or own weights as a configuration says; this is `within lowlevel eval`.

    Arguments:
        config: `network` (a name, see `models.names`), `weights` (a file) and `data` (a folder of ground truth); and
            where needed `data_lq` (a folder of degraded images, named by `filename_template`), `sigma` (of noise to
            add) or `protocol` (a published one); `overrides` (constructor arguments), `skip_bad`, `self_ensemble`,
            `save_folder`, `device`.

    Raises:
        WithinError: when a key is unknown or missing, and as what it calls does.
    """
    given = dict(config)
    unknown = sorted(set(given) - {*_REQUIRED, *_OPTIONAL})
    missing = [key for key in _REQUIRED if given.get(key) is None]
    if unknown or missing:
        raise WithinError(
            f"The configuration {'has no ' + ', '.join(missing) if missing else 'has unknown keys'}"
            + (f": {', '.join(unknown)}" if unknown else ""),
            todo=f"needed: {', '.join(_REQUIRED)}; possible: {', '.join(_OPTIONAL)}",
        )
    network, sigma, data_lq = given["network"], given.get("sigma"), given.get("data_lq")
    model = build(network, **given.get("overrides", {}))
    load_weights(model, given["weights"])
    if given.get("protocol") is not None:
        protocol = find_protocol(given["protocol"])
    else:
        protocol = usual_protocol(
            channels=variant(network).channels,
            scale=getattr(model, "scale", 1),
            sigma=sigma,
            paired=data_lq is not None,
            filename_template=given.get("filename_template", "{}"),
        )
    dataset = protocol.dataset(given["data"], data_lq, skip_bad=given.get("skip_bad", False))
    options = {key: given[key] for key in ("self_ensemble", "save_folder", "device") if key in given}
    return evaluate(model, dataset, protocol.metrics, forward=_with_noise_level(model, network, sigma), **options)


_REQUIRED = ("network", "weights", "data")
_OPTIONAL = (
    "protocol",
    "data_lq",
    "filename_template",
    "sigma",
    "overrides",
    "skip_bad",
    "self_ensemble",
    "save_folder",
    "device",
)


def _with_noise_level(model: nn.Module, network: str, sigma: float | None) -> Forward | None:
    if "noise_level" not in variant(network).inputs:
        return None
    if sigma is None:
        raise WithinError("This network needs to know how strong the noise is", where=network, todo="give sigma")
    return lambda batch: model(batch, torch.full((len(batch), 1, 1, 1), sigma / 255, device=batch.device))


def restore(
    model: nn.Module,
    image: Float[Tensor, "channels height width"],
    *,
    self_ensemble: bool = False,
    forward: Forward | None = None,
) -> Float[Tensor, "out_channels out_height out_width"]:
    """Runs the network on one image: pad, forward, crop; the result is not clamped.

    Arguments:
        model: the network, in `eval` mode.
        self_ensemble, forward: see `evaluate`.
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
