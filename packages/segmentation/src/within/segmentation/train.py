"""Train a segmentation network as a configuration says; this is `within segmentation train`.

The run directory receives `config.py`, `plan.json` and `model.safetensors` (the weights with the best validation mIoU),
`last.safetensors`, `training.json`, `logs/` and `checkpoints/`. Launched by torchrun, the processes share the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from within.core.cli.configuration import read_config, read_dataclass
from within.core.cli.run_directory import run_folder
from within.core.cli.training import train_in
from within.core.errors import WithinError
from within.core.train import TrainingResult, fit
from within.core.train.launch import launch, share_of_batch
from within.core.train.randomness import seeded
from within.segmentation.data import SegmentationPairs, TrainingCrops, find_dataset
from within.segmentation.eval import evaluate
from within.segmentation.losses import BoundaryAwareFocal, class_weights, cross_entropy
from within.segmentation.models import build
from within.segmentation.named_network import first_plan, load_weights
from within.segmentation.prediction import height_width
from within.segmentation.training_settings import Schedule, TrainingSettings
from within.segmentation.weights.encoder_layout import load_encoder, load_for_other_classes


def main(
    config: str | Path | Mapping[str, Any],
    *,
    run_directory: str | Path | None = None,
    resume: bool = False,
    device: str | torch.device | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> TrainingResult:
    """Trains the network of a configuration.

    Arguments:
        config: a Python configuration, or the settings themselves (see `TrainingSettings`).
        run_directory: receives all results; by default `runs/NAME`.
        resume: continue an interrupted run.
        device: None takes CUDA where there is one.
        overrides: settings that replace those of the file, dotted where nested: `{"schedule.epochs": 2}`.

    Raises:
        WithinError: when a setting is unknown, missing or impossible, and as the data sets and `fit` do.
    """
    launched = launch(device)
    read, where = read_config(config, overrides)
    settings = read_dataclass(TrainingSettings, read.to_dict(), where)
    pairs = find_dataset(settings.data, settings.split)
    held_out = None if settings.validation_split is None else find_dataset(settings.data, settings.validation_split)
    network = start(settings)
    folder = run_folder(settings.name, run_directory)
    size = settings.schedule.crop_size
    plan = first_plan(network, size, settings.network, settings.arguments, seed=settings.seed)
    train = partial(
        train_network, pairs=pairs, schedule=settings.schedule, description=settings.name, **settings.run_options()
    )

    def measure(model: nn.Module) -> dict[str, float]:
        assert held_out is not None
        scores = evaluate(model, held_out, size=height_width(settings.size), description="Validating").scores()
        return {"mIoU": 100 * scores.mean_iou, "pixel accuracy": 100 * scores.pixel_accuracy}

    return train_in(
        folder,
        train,
        network,
        plan,
        config=read,
        launched=launched,
        resume=resume,
        measure=None if held_out is None else measure,
        validate_every=settings.validate_every * settings.schedule.rounds(len(pairs)),
    )


def start(settings: TrainingSettings) -> nn.Module:
    """Returns the network as training finds it.

    Raises:
        WithinError: for an unknown network, or weights that do not fit.
    """
    network = seeded(settings.seed, lambda: build(settings.network, **settings.arguments))
    if settings.weights is not None:
        load_weights(network, settings.weights)
    if settings.transfer is not None:
        names = settings.transfer_classes
        label_map = find_dataset(settings.data, settings.split).label_map if names else None
        load_for_other_classes(
            network, settings.transfer, None if label_map is None else label_map.counterparts(names or ())
        )
    if settings.pretrained is not None:
        if not isinstance(getattr(network, "encoder", None), nn.Module):
            raise WithinError(f"{settings.network} has no encoder of its own", todo="give weights instead")
        load_encoder(network.encoder, settings.pretrained)
    return network


def train_network(
    network: nn.Module,
    pairs: SegmentationPairs | TrainingCrops,
    schedule: Schedule,
    *,
    processes: int = 1,
    **options: Any,
) -> TrainingResult:
    """Trains a network in place.

    Arguments:
        network: maps images to class scores of their size.
        pairs: what it is trained on, or a source of crops of it.
        schedule: how.
        processes: that share a batch.
        options: further arguments of `within.core.train.fit`.

    Raises:
        WithinError: when the batch cannot be shared, and as `fit` does.
    """
    crops = pairs if isinstance(pairs, TrainingCrops) else training_crops(pairs, schedule)
    steps = schedule.steps(len(crops))
    return fit(
        network,
        crops,
        iterations=steps,
        batch_size=share_of_batch(schedule.batch_size, processes),
        **objective_of(schedule, crops),
        ema=schedule.ema,
        optimizer=schedule.optimizer,
        schedule={"type": "CosineAnnealingLR", "T_max": steps, "eta_min_ratio": _least_ratio(schedule)},
        parameter_options=_encoder_options(schedule),
        clip_gradients=schedule.clip_gradients,
        precision=schedule.precision,
        channels_last=schedule.channels_last,
        threads=schedule.threads,
        workers=schedule.workers,
        **options,
    )


def training_crops(pairs: SegmentationPairs, schedule: Schedule) -> TrainingCrops:
    """Returns random crops of the images as the schedule wants them, which remember the decoded images."""
    size = schedule.crop if isinstance(schedule.crop, int) else schedule.crop_size
    low, high = schedule.scale
    return TrainingCrops(pairs, size=size, scale=(low, high), brightness=schedule.brightness, colour=schedule.colour)


def objective_of(schedule: Schedule, crops: TrainingCrops) -> dict[str, Any]:
    """Returns what `fit` minimises: the loss, on every row and column of the labels or on every so many-th."""
    loss, stride = loss_of(schedule, crops), schedule.loss_stride
    if stride == 1:
        return {"loss": loss}

    def objective(network: nn.Module, inputs: tuple[Tensor, ...], target: Tensor) -> dict[str, Tensor]:
        scores = network.scores(*inputs) if hasattr(network, "scores") else network(*inputs)
        return {"loss": loss(scores, target[:, stride // 2 :: stride, stride // 2 :: stride])}

    return {"objective": objective}


def loss_of(schedule: Schedule, crops: TrainingCrops) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns the loss of a schedule, with the classes of these images balanced where it says so."""
    offset = schedule.balance
    weights = None if offset is None else class_weights(crops.class_shares, offset=offset)
    ignore = crops.pairs.label_map.ignore
    if schedule.loss == "boundary_aware_focal":
        return BoundaryAwareFocal(ignore=ignore, weights=weights)

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(scores, labels, ignore=ignore, weights=weights)

    return loss


def _least_ratio(schedule: Schedule) -> float:
    return min(schedule.least_rate / float(schedule.optimizer.get("lr", 1.0)), 1.0)


def _encoder_options(schedule: Schedule) -> dict[str, Any] | None:
    factor = schedule.encoder_factor
    return None if factor == 1 else {"custom_keys": {".encoder.": {"lr_mult": factor, "decay_mult": factor}}}
