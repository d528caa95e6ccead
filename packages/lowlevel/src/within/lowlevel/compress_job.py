"""What follows from the network and the settings of a compression job: its images, calibration data and fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from within.core.errors import WithinError
from within.lowlevel.compress_settings import CompressSettings
from within.lowlevel.data.degradations import BicubicDownscale, Degradation, GaussianNoise
from within.lowlevel.data.folders import DegradedImages, PairedImages, open_source
from within.lowlevel.data.images import Color
from within.lowlevel.data.sample_images import TEST_NAMES, TRAIN_NAMES, sample_image, sample_images
from within.lowlevel.data.sources import ImageSource, load_all
from within.lowlevel.fine_tune import fine_tune, prepare_fine_tuning
from within.lowlevel.metrics import Metric
from within.lowlevel.named_network import RestorationNetwork, open_network
from within.lowlevel.protocols import find_protocol, usual_protocol
from within.lowlevel.training_data import Unchanged

SAMPLES = "samples"
BATCH = 8  # calibration inputs at once

TestSet = tuple[DegradedImages | PairedImages, tuple[Metric, ...], str]


def job_network(settings: CompressSettings) -> RestorationNetwork:
    """Builds the dense network of a job, with its weights, in eval mode.

    Raises:
        WithinError: as `open_network` does, and when there are no weights, or no sigma for a denoiser.
    """
    named = open_network(settings.network, weights=settings.weights, arguments=settings.arguments)
    if settings.weights is None and named.run is None:
        raise WithinError("The network has no weights", where=named.name, todo="give weights, or a run directory")
    if settings.sigma is None and (named.told_the_level or (named.task == "denoise" and not settings.degraded)):
        raise WithinError(
            "A denoiser needs the noise it shall remove",
            where="sigma",
            todo="give sigma, e.g. 25" + ("" if named.told_the_level else "; or degraded=True, with noisy photographs"),
        )
    named.model.eval()
    return named


def job_inputs(named: RestorationNetwork, settings: CompressSettings) -> tuple[Tensor, ...]:
    """Returns example inputs of the size for which the budget holds.

    Raises:
        WithinError: when the network does not take that size.
    """
    multiple = named.size_multiple
    if any(side % multiple for side in settings.size):
        raise WithinError(
            f"{named.name} takes sides that are multiples of {multiple}, and the size is {tuple(settings.size)}",
            where="size",
            todo=f"choose multiples of {multiple}; smaller images are padded and cropped when it runs",
        )
    height, width = settings.size
    image = torch.rand(1, named.channels, height, width, generator=torch.Generator().manual_seed(settings.seed))
    return image, *named.other_inputs(settings.sigma)


def job_images(settings: CompressSettings) -> ImageSource:
    """Opens a folder of photographs, or the samples that may be trained on."""
    return sample_images(TRAIN_NAMES) if settings.images == SAMPLES else load_all(open_source(settings.images))


def degradation(named: RestorationNetwork, settings: CompressSettings) -> Degradation | None:
    """Returns what makes the network's input from a clean photograph; None where there is no model of that."""
    if settings.degraded:
        return None
    if named.scale > 1:
        return BicubicDownscale(named.scale)
    return None if settings.sigma is None else GaussianNoise(settings.sigma)


def test_set(named: RestorationNetwork, settings: CompressSettings) -> TestSet | None:
    """Returns the held-out images, the metrics, and what they are in words.

    None when nothing is to be measured, or only the difference from the dense network can be.

    Raises:
        WithinError: when a folder does not fit the protocol.
    """
    if settings.test is None:
        return None
    if settings.protocol is None and settings.test_lq is None and degradation(named, settings) is None:
        return None
    protocol = (
        find_protocol(settings.protocol)
        if settings.protocol is not None
        else usual_protocol(
            channels=named.channels,
            scale=named.scale,
            sigma=None if settings.test_lq is not None else settings.sigma,
            paired=settings.test_lq is not None,
        )
    )
    noise = "" if settings.sigma is None else f", sigma {settings.sigma:g}"
    if settings.test == SAMPLES:
        images = test_images(named)
        names = ", ".join(images.sizes)
        made = protocol.degradation or degradation(named, settings)
        assert made is not None
        return DegradedImages(images, made, color=protocol.color), protocol.metrics, names + noise
    where = protocol.description if settings.protocol is not None else f"{Path(settings.test).name}{noise}"
    return protocol.dataset(settings.test, settings.test_lq), protocol.metrics, where


def test_images(named: RestorationNetwork) -> ImageSource:
    """Returns the held-out sample photographs; a network of colour images gets those in colour."""
    return sample_images([name for name in TEST_NAMES if named.channels == 1 or sample_image(name).shape[-1] == 3])


def calibration_batches(named: RestorationNetwork, settings: CompressSettings, images: ImageSource) -> list[Any]:
    """Returns calibration inputs in batches of eight, each a tensor or, with the noise level, a tuple."""
    inputs, _ = prepare_fine_tuning(
        None,
        images,
        degradation=degradation(named, settings) or Unchanged(),
        patch_size=settings.fine_tuning.patch_size * named.scale,
        items=max(settings.calibration // BATCH, 1) * BATCH,
        task_weight=1.0,
        color=_color(named),
        seed=settings.seed + 1,
    )
    if not named.told_the_level:
        return list(inputs.split(BATCH))
    (level,) = named.other_inputs(settings.sigma)
    return [(batch, level.expand(len(batch), 1, 1, 1)) for batch in inputs.split(BATCH)]


def tune(
    model: nn.Module,
    named: RestorationNetwork,
    images: ImageSource,
    settings: CompressSettings,
    folder: Path | None,
    *,
    resume: bool = False,
) -> None:
    """Fine-tunes a fitted network in place, from its dense teacher and, where there are any, the clean photographs."""
    tuning = settings.fine_tuning
    if not tuning.iterations:
        return
    made = degradation(named, settings)
    fine_tune(
        named.at_level(model, settings.sigma),
        named.at_level(named.model, settings.sigma),
        images,
        degradation=made,
        iterations=tuning.iterations,
        batch_size=tuning.batch_size,
        patch_size=tuning.patch_size * named.scale,
        loss=tuning.loss,
        task_weight=0.0 if made is None else tuning.task_weight,
        optimizer={"type": "Adam", "lr": tuning.learning_rate},
        color=_color(named),
        seed=settings.seed,
        run_directory=None if folder is None else folder / "fine_tuning",
        checkpoint_every=tuning.checkpoint_every,
        resume=resume,
    )


def _color(named: RestorationNetwork) -> Color:
    return "gray" if named.channels == 1 else "rgb"
