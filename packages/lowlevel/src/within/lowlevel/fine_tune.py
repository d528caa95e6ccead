"""Fine-tuning of a compressed restoration network: from its dense teacher, from clean images, or from both.

Where data are few, or are noisy photographs without clean partners, the output of the dense network is the best signal:
it needs no clean image and has no noise of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from within.core.errors import WithinError
from within.core.train import TrainingResult, fit
from within.lowlevel.data.degradations import BicubicDownscale, Degradation
from within.lowlevel.data.folders import DegradedImages, PairedImages, open_source
from within.lowlevel.data.images import Color, ImageArray
from within.lowlevel.data.patches import Patches
from within.lowlevel.data.sources import ArrayImages, ImageSource, load_all
from within.lowlevel.losses import build_loss
from within.lowlevel.training_data import (
    TurnedTensors,
    Unchanged,
    bicubic_pairs,
    prepare,
    teacher_outputs,
)

Prepared = tuple[
    Float[Tensor, "items patch_channels patch_height patch_width"],
    Float[Tensor, "items target_channels target_height target_width"],
]


def fine_tune(
    model: nn.Module,
    teacher: nn.Module | None,
    images: ImageSource | Sequence[ImageArray] | str | Path | Prepared,
    *,
    degradation: Degradation | None = None,
    iterations: int = 1000,
    batch_size: int = 8,
    patch_size: int = 64,
    items: int | None = None,
    loss: str | Mapping[str, Any] = "l1",
    task_weight: float = 0.0,
    color: Color | None = None,
    optimizer: Mapping[str, Any] = {"type": "Adam", "lr": 1e-3},
    schedule: Any = "warm_cosine",
    channels_last: bool = True,
    seed: int = 0,
    device: str | torch.device | None = None,
    **options: Any,
) -> TrainingResult:
    """Fine-tunes `model` in place.

    Arguments:
        model: the compressed network.
        teacher: the dense network, or None to learn from clean images alone.
        images: photographs: a source, arrays, or a folder; or (inputs, targets) as `prepare_fine_tuning` returns them,
            so that several networks share the patches and one run of the teacher.
        degradation: what makes the network's input from a clean image; None when the photographs are degraded already,
            which needs a teacher.
        iterations, batch_size: of the training.
        patch_size: height and width of the ground truth's patches.
        items: number of patches drawn once; by default one for each place in the training, at most 4,096. They come
            again flipped and turned.
        loss: distance to the target: a name of `losses.LOSSES`, or a mapping with its `type` and arguments.
        task_weight: weight of the clean image in the target beside the teacher's output (0: the teacher alone, 1: the
            clean image alone): t = (1 - w) teacher(y) + w x.
        color: convert the photographs to "gray" or "rgb"; None keeps them.
        optimizer, schedule, channels_last, seed, device, options: see `within.core.train.fit`.

    Raises:
        WithinError: when neither a teacher nor clean images are given, and as `fit` does.
    """
    if isinstance(images, tuple) and len(images) == 2 and all(isinstance(part, Tensor) for part in images):
        prepared = images
    else:
        prepared = prepare_fine_tuning(
            teacher,
            images,
            degradation=degradation,
            patch_size=patch_size,
            items=items if items is not None else min(iterations * batch_size, 4096),
            task_weight=task_weight,
            color=color,
            seed=seed,
            device="cpu" if device is None and not torch.cuda.is_available() else device or "cuda",
        )
    named = {"type": loss} if isinstance(loss, str) else dict(loss)
    return fit(
        model,
        TurnedTensors(*prepared),
        iterations=iterations,
        batch_size=batch_size,
        loss=build_loss(**named),
        optimizer=optimizer,
        schedule=schedule,
        channels_last=channels_last,
        seed=seed,
        device=device,
        **{"description": "Fine-tuning", **options},
    )


def prepare_fine_tuning(
    teacher: nn.Module | None,
    images: ImageSource | Sequence[ImageArray] | str | Path,
    *,
    degradation: Degradation | None = None,
    patch_size: int = 64,
    items: int = 4096,
    task_weight: float = 0.0,
    color: Color | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Prepared:
    """Returns (inputs, targets) for `fine_tune`; arguments as there.

    Raises:
        WithinError: when neither a teacher nor clean images are given, or a patch does not fit into an image.
    """
    if teacher is None and degradation is None:
        raise WithinError(
            "There is nothing to learn from: photographs that are degraded already need a teacher",
            todo="pass the dense network as teacher, or clean images with degradation=",
        )
    if not 0 <= task_weight <= 1:
        raise WithinError(f"task_weight is {task_weight}", todo="choose a weight from 0 to 1")
    if degradation is None and task_weight > 0:
        raise WithinError("Photographs that are degraded already have no clean image", todo="leave task_weight at 0")
    source, patches = _in_memory(images), Patches(patch_size)
    dataset: DegradedImages | PairedImages
    if isinstance(degradation, BicubicDownscale) and degradation.variant == "matlab":
        dataset = bicubic_pairs(source, degradation.scale, patches=patches, color=color)
    else:
        dataset = DegradedImages(source, degradation or Unchanged(), patches=patches, color=color, seed=seed)
    inputs, clean = prepare(dataset, items, seed=seed)
    if teacher is None or task_weight == 1:
        return inputs, clean
    outputs = teacher_outputs(teacher, inputs, device=device)
    if task_weight == 0:
        return inputs, outputs
    return inputs, torch.lerp(outputs, clean, task_weight)


def _in_memory(images: ImageSource | Sequence[ImageArray] | str | Path) -> ImageSource:
    if isinstance(images, (str, Path)):
        return load_all(open_source(images))
    if isinstance(images, Sequence):
        return ArrayImages({f"image {position}": image for position, image in enumerate(images)})
    return images
