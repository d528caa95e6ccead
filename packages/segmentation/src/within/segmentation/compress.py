"""The main job: a segmentation network in, a smaller one on integers out; this is `within segmentation compress`.

open -> cut (stages, or budgets) -> fine-tune -> quantise -> export -> measure -> report

The run directory receives config.py, plan.json, model.safetensors (in float), model.onnx, int8.onnx, metrics.json and
report.html. Fine-tuning that was interrupted continues.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from within.core import Budget, Latency, Macs, Params, PeakMemory, prune
from within.core.checkpoint import save_model
from within.core.cli.configuration import load_config
from within.core.distill import KnowledgeDistillation
from within.core.files import atomic_write, new_run_directory
from within.core.plan import Plan, input_specs
from within.core.pruning import PruneResult
from within.core.quantize import QuantizationResult
from within.core.report import ReportContent, write_report
from within.segmentation.compress_report import report_content
from within.segmentation.compress_settings import CompressSettings, compress_settings
from within.segmentation.data import SegmentationPairs, find_dataset
from within.segmentation.int8 import calibration_images, quantised
from within.segmentation.named_network import NamedNetwork, open_network, with_attributes
from within.segmentation.stage_pruning import filter_l1, prune_stages
from within.segmentation.train import CONFIG, train_network

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
    read = load_config(Path(config)) if isinstance(config, (str, Path)) else Config(dict(config))
    read.merge_from_dict(dict(overrides or {}))
    settings = compress_settings(read.to_dict(), where=str(read.filename or "configuration"))
    torch.manual_seed(settings.seed)
    named = open_network(settings.network, weights=settings.weights, arguments=settings.arguments)
    pairs, test = find_dataset(settings.data, settings.split), find_dataset(settings.data, settings.test)
    if settings.limit is not None:
        test = test.take(range(min(settings.limit, len(test))))
    name = named.name if named.run is None else named.run.name
    folder = new_run_directory(run_directory or settings.run or Path("runs") / f"{name}-compressed", resume=resume)
    size = (int(settings.size[0]), int(settings.size[1]))
    images = calibration_images(pairs, settings.calibration, size)
    dense = named.model.eval()
    pruned = _cut(dense, images, settings, named)
    model, plan = (dense, _plan(named, images)) if pruned is None else (pruned.model, pruned.plan)
    with_attributes(model, dense)
    with atomic_write(folder / CONFIG) as temporary:
        temporary.write_text(read.pretty_text)
    if settings.fine_tuning is not None:
        _fine_tune(model, dense, pairs, settings, folder, resume)
    model.eval()
    save_model(model, plan, folder)
    integers = quantised(model, images, settings.quantization) if settings.int8 else None
    content = report_content(settings, named, model, pruned, integers, images, test, folder)
    write_report(folder, content)
    return Compressed(dense, model, pruned, integers, folder, content)


def _plan(named: NamedNetwork, images: list[Tensor]) -> Plan:
    """Returns the plan that leads to the network given: that of its run, when it is compressed again."""
    origin = {"network": named.name, "arguments": dict(named.arguments)}
    if named.plan is None:
        return Plan(type(named.model).__name__, input_specs((images[0],)), provenance=origin)
    return replace(named.plan, provenance=dict(named.plan.provenance) | origin)


def _cut(dense: nn.Module, images: list[Tensor], settings: CompressSettings, named: NamedNetwork) -> PruneResult | None:
    """Returns the smaller network, or None where nothing is to be cut."""
    example, plan = (images[0],), _plan(named, images)
    if settings.stages is not None:
        found = prune_stages(
            dense, example, settings.stages, settings.fraction, importance=settings.importance, plan=plan
        )
    elif settings.budgets:
        costs = {"macs": Macs, "parameters": Params, "peak_memory": PeakMemory, "latency": Latency}
        found = prune(
            dense,
            example,
            budgets=[Budget(costs[name](), fraction=fraction) for name, fraction in settings.budgets.items()],
            importance=filter_l1 if settings.importance == "filter_l1" else settings.importance,
            protect=[*(head for head in HEADS if hasattr(dense, head)), *settings.protect],
            plan=plan,
        )
    else:
        return None
    return replace(found, plan=replace(found.plan, provenance=dict(found.plan.provenance) | dict(plan.provenance)))


def _fine_tune(
    model: nn.Module,
    dense: nn.Module,
    pairs: SegmentationPairs,
    settings: CompressSettings,
    folder: Path,
    resume: bool,
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
        description="Fine-tuning",
        **teacher,
    )
