"""A compression from its settings to its run directory.

build -> trace -> importance -> solve under budgets -> cut -> save -> export -> measure -> report
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from within.core.cli.configuration import load_config
from within.core.cli.factory import build_with_weights, example_inputs, find_factory
from within.core.cli.run_directory import MODEL, open_run_directory, run_folder
from within.core.cli.settings import Settings, read_budgets, read_settings
from within.core.device.export import OnnxModel, export_onnx
from within.core.device.measure import measure
from within.core.device.memory import live_graph_measured, onnxruntime_memory
from within.core.graph import Graph, trace
from within.core.pruning import PruneResult, load, prune, save_model
from within.core.report import (
    Certificate,
    CostRow,
    ReportContent,
    collect_provenance,
    quality_rows,
    write_report,
)
from within.core.report.from_graph import COSTS, budget_rows, group_widths, memory_timeline, notices


def run_compression(config_path: Path, output: Path | None = None) -> tuple[Path, ReportContent]:
    """Compresses a model as its configuration says and writes the run directory.

    Returns:
        The run directory, and what its report says.

    Raises:
        WithinError: for whatever is wrong with the configuration, the model, the budgets or the directory.
    """
    config = load_config(config_path)
    settings = read_settings(config.to_dict(), where=str(config_path))
    budgets = read_budgets(settings.budgets, where=str(config_path))
    torch.manual_seed(settings.seed)
    dense, inputs = build_with_weights(settings.model), example_inputs(settings.shapes, settings.seed)
    with open_run_directory(run_folder(config_path.stem, output, settings.output), config) as folder:
        result = prune(
            dense,
            inputs,
            budgets=budgets,
            widths=settings.widths,
            importance=settings.importance,
            protect=settings.protect,
            step=settings.step,
            strict=settings.strict,
            minimum=settings.minimum,
            data=find_factory(settings.data)() if settings.data else None,
            loss=find_factory(settings.loss) if settings.loss else None,
        )
        save_model(result.model, result.plan, folder)
        exported = export_onnx(result.model, inputs, folder / MODEL)
        replayed = _replay_difference(result.model, load(folder, lambda: build_with_weights(settings.model)), inputs)
        content = _report(settings, dense, inputs, result, exported, replayed)
        write_report(folder, content)
    return folder, content


def _report(
    settings: Settings,
    dense: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    result: PruneResult,
    exported: OnnxModel,
    replayed: float,
) -> ReportContent:
    slim_graph = trace(result.model, inputs)
    check = exported.verification
    sizes = ", ".join(" and ".join("x".join(map(str, shape)) for shape in shapes) for shapes in check.shapes)
    certificate = result.certificate
    evaluate = find_factory(settings.evaluate) if settings.evaluate else None
    return ReportContent(
        title=f"{settings.model['factory']}, compressed",
        summary=f"{settings.model['factory']} at {', '.join(settings.shapes)}, importance {settings.importance}; "
        "not trained after compression.",
        quality=quality_rows(evaluate, dense, result.model),
        costs=(*_costs(result, slim_graph, inputs, dense), *_measured(settings, dense, result.model, exported, inputs)),
        budgets=budget_rows(certificate.achieved),
        certificate=Certificate(
            "solved under the budgets" if settings.budgets else "given widths",
            certificate.gap if settings.budgets else None,
            certificate.masked_slim_error,
            (
                f"rebuilt from constructor, plan and weights: largest difference {replayed:.1e}",
                f"ONNX against the model at {sizes}: largest relative difference {check.max_relative:.1e}",
            ),
        ),
        memory=(memory_timeline("dense", result.graph), memory_timeline("compressed", slim_graph)),
        widths=group_widths(result.graph, result.widths),
        notices=notices(result.graph),
        provenance=collect_provenance(settings.seed),
    )


def _costs(
    result: PruneResult, slim_graph: Graph, inputs: Sequence[torch.Tensor], dense: nn.Module
) -> tuple[CostRow, ...]:
    """Returns the costs of the decision beside those counted again on the smaller model itself."""
    rows = []
    for cost in COSTS:
        dense_cost, predicted = float(cost(result.graph)), float(cost(result.graph, result.widths))
        recounted, instrument = float(cost(slim_graph)), "counted again on the smaller model"
        before = dense_cost
        if cost.name.startswith("peak memory"):
            before = float(live_graph_measured(dense, inputs).bytes)
            recounted = float(live_graph_measured(result.model, inputs).bytes)
            instrument = "storage counter"
        rows.append(CostRow(cost.name, cost.unit, dense_cost, predicted, before, recounted, instrument))
    return tuple(rows)


def _measured(
    settings: Settings,
    dense: nn.Module,
    slim: nn.Module,
    exported: OnnxModel,
    inputs: tuple[torch.Tensor, ...],
) -> tuple[CostRow, ...]:
    """Returns resident memory and latency of both models, measured on the runtime."""
    if settings.runtime is None:
        return ()
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(dense, inputs, Path(folder) / MODEL).path
        resident = [float(onnxruntime_memory(each, inputs)[0].bytes) for each in (path, exported.path)]
        models: dict[str, nn.Module | str | Path | Any]
        models = {"dense": path, "slim": exported.path}
        if settings.runtime.startswith("torch"):
            models = {"dense": dense, "slim": slim}
        times = measure(models, inputs, runtime=settings.runtime)
    rounds = len(times["dense"].samples)
    return (
        CostRow(
            "resident memory",
            "bytes",
            before_measured=resident[0],
            after_measured=resident[1],
            instrument="process, onnxruntime without arena",
        ),
        CostRow(
            "latency",
            "s",
            before_measured=times["dense"].median,
            after_measured=times["slim"].median,
            instrument=f"{settings.runtime}, one thread, CPU time, median of {rounds} interleaved runs",
        ),
    )


def _replay_difference(model: nn.Module, rebuilt: nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
    """Returns the largest difference between the outputs of a model and of its copy rebuilt from the files."""
    from within.core.device.verify import verify

    return verify(model, rebuilt, [inputs], tolerance=0.0, raises=False).max_absolute
