"""The main job: a restoration network in, the same network within a memory limit out, with the proof.

load -> free transforms -> fit into the limit -> fine-tune from the dense teacher -> export -> measure -> report

The run directory receives config.py, plan.json, model.safetensors, model.onnx, metrics.json and report.html. An
interrupted job continues from the last checkpoint of its fine-tuning and ends with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from within.core.cost import PeakMemory
from within.core.errors import WithinError
from within.core.files import atomic_write, new_run_directory
from within.core.graph import trace
from within.core.pruning.checkpoint import save_model
from within.core.pruning.plan import Plan, input_specs
from within.core.pruning.widths import WidthRules
from within.core.report import ReportContent, write_report
from within.lowlevel.compress_report import report_content
from within.lowlevel.compress_settings import CompressSettings, read_compress_settings
from within.lowlevel.data.degradations import BicubicDownscale, Degradation, GaussianNoise
from within.lowlevel.data.folders import open_source
from within.lowlevel.data.sample_images import TRAIN_NAMES, sample_images
from within.lowlevel.data.sources import ImageSource, load_all
from within.lowlevel.fine_tune import fine_tune, prepare_fine_tuning
from within.lowlevel.fit_memory import MemoryFit, fit_memory
from within.lowlevel.free_transforms import apply_free_transforms
from within.lowlevel.models import build, example_inputs, variant
from within.lowlevel.weights import load_weights

MIB = 2**20
CONFIG, ONNX = "config.py", "model.onnx"


@dataclass(frozen=True, eq=False)
class Compressed:
    """What the job made.

    Attributes:
        dense, model: the network before and after, weights loaded.
        fit: how it was fitted.
        dense_peak, transformed_peak: live_graph peak of the dense network, and after the free transforms, in bytes.
        folder: the run directory.
        content: the report.
    """

    dense: nn.Module
    model: nn.Module
    fit: MemoryFit
    dense_peak: int
    transformed_peak: int
    folder: Path
    content: ReportContent


def main(
    config: str | Path | Mapping[str, Any],
    *,
    run_directory: str | Path | None = None,
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> Compressed:
    """Compresses the network of a job and writes the run directory.

    Arguments:
        config: a Python configuration or the settings themselves (see `CompressSettings`).
        run_directory: instead of the configured one; `runs/NETWORK-METHOD` by default.
        resume: continue an interrupted job.
        overrides: settings that replace those of the file.

    Raises:
        InfeasibleBudget: when the budget cannot be met, naming the operator and the tensors that hold it.
        WithinError: for whatever is wrong with settings, weights, images or the run directory.
    """
    read = Config.fromfile(str(config)) if isinstance(config, (str, Path)) else Config(dict(config))
    read.merge_from_dict(dict(overrides or {}))
    settings = read_compress_settings(read.to_dict(), where=str(read.filename or "configuration"))
    torch.manual_seed(settings.seed)
    dense = load_network(settings)
    inputs = example_inputs(settings.network, *settings.size)
    _check_size(dense, settings)
    images = open_images(settings.images)
    folder = new_run_directory(
        run_directory or settings.run or Path("runs") / f"{settings.network}-{settings.method}", resume=resume
    )
    with atomic_write(folder / CONFIG) as temporary:
        temporary.write_text(read.pretty_text)
    dense_peak = int(PeakMemory()(trace(dense, inputs)))
    limit = settings.budget_mib * MIB if settings.budget_mib is not None else dense_peak * (settings.fraction or 1.0)
    plan = Plan(type(dense).__name__, input_specs(inputs), (), {"network": settings.network, "seed": settings.seed})
    network: nn.Module = dense
    if settings.transforms:
        network, plan = apply_free_transforms(dense, inputs, plan)
    transformed_peak = int(PeakMemory()(trace(network, inputs)))
    fit = fit_memory(
        network,
        inputs,
        calibration_batches(settings, images),
        limit,
        method=settings.method,  # type: ignore[arg-type]
        compactors=settings.compactors,
        rules=WidthRules(settings.step, settings.minimum),
        plan=plan,
    )
    tune(fit.model, dense, images, settings, folder, resume=resume)
    fit.model.eval()
    save_model(fit.model, fit.plan, folder)
    content = report_content(settings, dense, fit, inputs, dense_peak, transformed_peak, limit, folder)
    write_report(folder, content)
    return Compressed(dense, fit.model, fit, dense_peak, transformed_peak, folder, content)


def load_network(settings: CompressSettings) -> nn.Module:
    """Builds the dense network and loads its weights."""
    model = build(settings.network, **settings.arguments)
    load_weights(model, settings.weights)
    return model.eval()


def open_images(images: str) -> ImageSource:
    """Opens a folder of photographs, or the samples that may be trained on."""
    return sample_images(TRAIN_NAMES) if images == "samples" else load_all(open_source(images))


def degradation_of(settings: CompressSettings) -> Degradation:
    """Returns what makes the network's input from a clean photograph.

    Raises:
        WithinError: for a denoiser without sigma, and tasks whose degradation has no model.
    """
    row = variant(settings.network)
    if row.task == "sr":
        return BicubicDownscale(row.scale)
    if row.task == "denoise":
        if settings.sigma is None:
            raise WithinError("A denoiser needs the noise it shall remove", where="sigma", todo="give sigma, e.g. 25")
        return GaussianNoise(settings.sigma)
    return GaussianNoise(0.0)


def calibration_batches(settings: CompressSettings, images: ImageSource) -> list[Any]:
    """Returns calibration inputs in batches of eight."""
    inputs, _ = prepare_fine_tuning(
        None,
        images,
        degradation=degradation_of(settings),
        patch_size=settings.fine_tuning.patch_size * variant(settings.network).scale,
        items=max(settings.calibration // 8, 1) * 8,
        task_weight=1.0,
        color=color_of(settings),
        seed=settings.seed + 1,
    )
    return [as_network_inputs(settings, batch) for batch in inputs.split(8)]


def as_network_inputs(settings: CompressSettings, images: Tensor) -> Any:
    """Adds the noise level where the network takes it."""
    if len(example_inputs(settings.network, *settings.size)) == 1:
        return images
    return images, torch.full((len(images), 1, 1, 1), (settings.sigma or 0.0) / 255)


def color_of(settings: CompressSettings) -> Any:
    """Returns the colour mode that the network reads."""
    return "gray" if variant(settings.network).channels == 1 else "rgb"


def tune(
    model: nn.Module,
    teacher: nn.Module,
    images: ImageSource,
    settings: CompressSettings,
    folder: Path | None,
    *,
    resume: bool = False,
) -> None:
    """Fine-tunes a fitted network in place, from its dense teacher and the clean photographs."""
    tuning = settings.fine_tuning
    if not tuning.iterations:
        return
    if len(example_inputs(settings.network, *settings.size)) > 1:
        raise WithinError(
            f"{settings.network} takes a noise level beside the image, which fine-tuning does not give it",
            where="fine_tuning",
            todo="set fine_tuning iterations to 0",
        )
    fine_tune(
        model,
        teacher,
        images,
        degradation=degradation_of(settings),
        iterations=tuning.iterations,
        batch_size=tuning.batch_size,
        patch_size=tuning.patch_size * variant(settings.network).scale,
        loss=tuning.loss,
        task_weight=tuning.task_weight,
        optimizer={"type": "Adam", "lr": tuning.learning_rate},
        color=color_of(settings),
        seed=settings.seed,
        run_directory=None if folder is None else folder / "fine_tuning",
        checkpoint_every=tuning.checkpoint_every,
        resume=resume,
    )


def with_method(settings: CompressSettings, method: str) -> CompressSettings:
    """Returns the same job by another method."""
    return replace(settings, method=method)


def _check_size(model: nn.Module, settings: CompressSettings) -> None:
    multiple = getattr(model, "size_multiple", 1)
    wrong: Sequence[int] = [side for side in settings.size if side % multiple]
    if wrong:
        raise WithinError(
            f"{settings.network} takes sides that are multiples of {multiple}, and the size is {tuple(settings.size)}",
            where="size",
            todo=f"choose multiples of {multiple}; smaller images are padded and cropped when it runs",
        )
