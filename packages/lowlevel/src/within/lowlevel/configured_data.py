"""The data that a training configuration names: the source of training batches and the validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from within.core.device.inference import device_of
from within.core.errors import WithinError
from within.core.train import BatchSource
from within.lowlevel.data.degradations import GaussianNoise
from within.lowlevel.data.folders import DegradedImages, PairedImages, open_pair, open_source
from within.lowlevel.data.patches import Patches
from within.lowlevel.data.sample_images import TEST_NAMES, sample_images
from within.lowlevel.data.sources import ImageSource, load_all
from within.lowlevel.eval import Forward, evaluate
from within.lowlevel.metrics import Metric
from within.lowlevel.models import variant
from within.lowlevel.protocols import Protocol, find_protocol, usual_protocol
from within.lowlevel.training_data import NoisyPatches, Unchanged, bicubic_pairs
from within.lowlevel.training_settings import TrainingSettings, ValidationData

# Images that take less than this are decoded once and kept in memory.
_MEMORY = 2 * 2**30
_SAMPLES = "samples"


def training_source(settings: TrainingSettings) -> BatchSource:
    """Opens the training data.

    Raises:
        WithinError: as the data sets do.
    """
    train, known = settings.train, variant(settings.network)
    color = train.color or {1: "gray", 3: "rgb"}.get(known.channels)
    told_the_level = "noise_level" in known.inputs
    patches = Patches(train.patch_size, flip=train.flip, rotate=train.rotate)
    options: dict[str, Any] = {"patches": patches, "color": color, "enlarge": train.enlarge}
    if train.gt is not None and train.lq is not None:
        return open_pair(
            settings.path(train.gt),
            settings.path(train.lq),
            meta_info=train.meta_info,
            backend=train.backend,
            filename_template=train.filename_template,
            skip_bad=train.skip_bad,
            scale=known.scale,
            **options,
        )
    images = _images(settings)
    if train.gt is None:
        return DegradedImages(images, Unchanged(), **options)
    if train.sigma is None:
        if known.scale == 1:
            raise WithinError(
                "Nothing says how the training images are degraded", where=settings.name, todo="give sigma or train.lq"
            )
        return bicubic_pairs(images, known.scale, **options)
    if train.stride is None and tuple(train.scales) == (1.0,) and not told_the_level:
        return DegradedImages(images, GaussianNoise(train.sigma), **options)
    return NoisyPatches(
        images,
        patch_size=train.patch_size,
        stride=train.stride,
        enlarge=train.enlarge,
        sigma=train.sigma,
        scales=train.scales,
        color=color,
        augment=train.flip or train.rotate,
        noise_level_input=told_the_level,
    )


def validation(settings: TrainingSettings) -> Callable[[nn.Module], Mapping[str, float]] | None:
    """Returns the function that measures the network during training, or None where nothing is to be measured.

    Raises:
        WithinError: as the data sets do, and when nothing says how images are degraded.
    """
    data, known = settings.validation, variant(settings.network)
    if data is None:
        return None
    if data.protocol is not None:
        protocol = find_protocol(data.protocol)
    else:
        protocol = usual_protocol(
            channels=known.channels,
            scale=known.scale,
            sigma=data.sigma,
            paired=data.lq is not None,
            filename_template=data.filename_template,
        )
    dataset = _validation_images(settings, data, protocol)
    metrics = {name: Metric(**dict(arguments)) for name, arguments in data.metrics.items()}
    sigma = getattr(protocol.degradation, "sigma", None)

    def measure(network: nn.Module) -> Mapping[str, float]:
        device = device_of(network)
        forward = _at_level(network, sigma, device) if "noise_level" in known.inputs else None
        chosen = tuple(metrics.values()) or protocol.metrics
        mean = evaluate(network, dataset, chosen, forward=forward, device=device).mean
        return {name: mean[metric.name] for name, metric in metrics.items()} if metrics else mean

    return measure


def _images(settings: TrainingSettings) -> ImageSource:
    train = settings.train
    folder = train.gt if train.gt is not None else train.lq
    assert folder is not None
    if folder == _SAMPLES:
        return sample_images()
    source = open_source(
        settings.path(folder), meta_info=train.meta_info, backend=train.backend, skip_bad=train.skip_bad
    )
    size = sum(height * width * 3 for height, width in source.sizes.values())
    return load_all(source) if size <= _MEMORY else source


def _validation_images(
    settings: TrainingSettings, data: ValidationData, protocol: Protocol
) -> PairedImages | DegradedImages:
    if protocol.degradation is not None:
        images = (
            sample_images(TEST_NAMES)
            if data.gt == _SAMPLES
            else open_source(settings.path(data.gt), backend=data.backend)
        )
        return DegradedImages(images, protocol.degradation, color=protocol.color)
    if data.lq is None:
        raise WithinError("The validation has no degraded images", where=settings.name, todo="give validation.lq")
    return open_pair(
        settings.path(data.gt),
        settings.path(data.lq),
        backend=data.backend,
        scale=protocol.scale,
        filename_template=protocol.filename_template,
        color=protocol.color,
    )


def _at_level(network: nn.Module, sigma: float | None, device: torch.device) -> Forward:
    if sigma is None:
        raise WithinError("This network needs to know how strong the noise is", todo="give validation.sigma")
    return lambda batch: network(batch, torch.full((len(batch), 1, 1, 1), sigma / 255, device=device))
