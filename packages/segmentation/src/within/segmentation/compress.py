"""The main job: a segmentation network in, a smaller one on integers out; this is `within segmentation compress`.

open -> cut (stages, or budgets) -> fine-tune -> quantise -> export -> measure -> report

The run directory receives config.py, plan.json, model.safetensors (in float), model.onnx, int8.onnx, metrics.json and
report.html. Fine-tuning that was interrupted continues.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from within.core import Budget, Latency, Macs, Params, PeakMemory, prune
from within.core.checkpoint import save_model
from within.core.cli.configuration import read_config, read_dataclass
from within.core.cli.run_directory import open_run_directory, run_folder
from within.core.distill import KnowledgeDistillation
from within.core.named_network import with_attributes
from within.core.plan import Plan
from within.core.pruning import PruneResult
from within.core.quantize import QuantizationResult
from within.core.report import ReportContent, write_report
from within.core.train.launch import launch
from within.segmentation.compress_report import report_content
from within.segmentation.compress_settings import CompressSettings
from within.segmentation.data import SegmentationPairs, find_dataset
from within.segmentation.int8 import calibration_images, quantised
from within.segmentation.named_network import ATTRIBUTES, first_plan, open_network
from within.segmentation.stage_pruning import prune_stages
from within.segmentation.train import train_network

HEADS = ("logits",)


@dataclass(frozen=True, eq=False)
class Compressed:
    """What the job made.

    Attributes:
        dense, model: the network before and after, in floating point.
        pruned: how it was cut, or None.
        integers: the quantised network, or None.
        folder: the run directory.
        content: the report.
    """

    dense: nn.Module
    model: nn.Module
    pruned: PruneResult | None
    integers: QuantizationResult | None
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
        run_directory: instead of the configured one; `runs/NETWORK-compressed` by default.
        resume: continue an interrupted job.
        overrides: settings that replace those of the file.

    Raises:
        InfeasibleBudget: when a budget cannot be met.
        WithinError: for whatever is wrong with settings, weights, images or the run directory.
    """
    read, where = read_config(config, overrides)
    settings = read_dataclass(CompressSettings, read.to_dict(), where)
    device = launch(settings.device).device
    torch.manual_seed(settings.seed)
    named = open_network(settings.network, weights=settings.weights, arguments=settings.arguments)
    pairs, test = find_dataset(settings.data, settings.split), find_dataset(settings.data, settings.test)
    if settings.limit is not None:
        test = test.take(range(min(settings.limit, len(test))))
    directory = run_folder(f"{named.title}-compressed", run_directory, settings.run)
    with open_run_directory(directory, read, resume=resume) as folder:
        images = calibration_images(pairs, settings.calibration, settings.working_size)
        dense = named.model.eval()
        plan = named.plan or first_plan(dense, settings.working_size, named.name, named.arguments)
        pruned = _cut(dense, images[0], settings, plan)
        model, plan = (dense, plan) if pruned is None else (pruned.model, pruned.plan)
        with_attributes(model, lambda: dense, ATTRIBUTES)
        if settings.fine_tuning is not None:
            _fine_tune(model, dense, pairs, settings, folder, resume, device)
        model.eval()
        save_model(model, plan, folder)
        integers = quantised(model, images, settings.quantization) if settings.int8 else None
        content = report_content(settings, named, model, pruned, integers, images, test, folder, device)
        write_report(folder, content)
    return Compressed(dense, model, pruned, integers, folder, content)


def _cut(dense: nn.Module, image: Tensor, settings: CompressSettings, plan: Plan) -> PruneResult | None:
    """Returns the smaller network, or None where nothing is to be cut."""
    if settings.stages is not None:
        return prune_stages(
            dense, (image,), settings.stages, settings.fraction, importance=settings.importance, plan=plan
        )
    if not settings.budgets:
        return None
    costs = {"macs": Macs, "parameters": Params, "peak_memory": PeakMemory, "latency": Latency}
    return prune(
        dense,
        (image,),
        budgets=[Budget(costs[name](), fraction=fraction) for name, fraction in settings.budgets.items()],
        importance=settings.importance,
        protect=[*(head for head in HEADS if hasattr(dense, head)), *settings.protect],
        plan=plan,
    )


def _fine_tune(
    model: nn.Module,
    dense: nn.Module,
    pairs: SegmentationPairs,
    settings: CompressSettings,
    folder: Path,
    resume: bool,
    device: torch.device,
) -> None:
    assert settings.fine_tuning is not None
    teacher: dict[str, Any] = {}
    if settings.distillation:
        teacher = {"teacher": dense, "distillation": KnowledgeDistillation(weight=settings.distillation)}
    train_network(
        model,
        pairs,
        settings.fine_tuning,
        run_directory=folder,
        resume=resume,
        seed=settings.seed,
        device=device,
        description="Fine-tuning",
        **teacher,
    )
