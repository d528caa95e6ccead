"""The main job: a restoration network in, the same network within a memory limit out, with the proof.

load -> free transforms -> fit into the limit -> fine-tune from the dense teacher -> export -> measure -> report

The run directory receives config.py, plan.json, model.safetensors, model.onnx, metrics.json and report.html. An
interrupted job continues from the last checkpoint of its fine-tuning and ends with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from within.core.checkpoint import save_model
from within.core.cli.configuration import read_config
from within.core.cli.run_directory import open_run_directory, run_folder
from within.core.cost import PeakMemory
from within.core.graph import trace
from within.core.named_network import first_plan
from within.core.plan import Plan
from within.core.pruning.widths import WidthRules
from within.core.report import ReportContent, write_report
from within.lowlevel.compress_job import calibration_batches, job_images, job_inputs, job_network, test_set, tune
from within.lowlevel.compress_report import report_content
from within.lowlevel.compress_settings import CompressSettings, read_compress_settings
from within.lowlevel.fit_memory import MemoryFit, fit_memory
from within.lowlevel.free_transforms import apply_free_transforms
from within.lowlevel.named_network import RestorationNetwork

MIB = 2**20


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
    read, where = read_config(config, overrides)
    settings = read_compress_settings(read.to_dict(), where=where)
    torch.manual_seed(settings.seed)
    named = job_network(settings)
    dense, inputs = named.model, job_inputs(named, settings)
    images, tested = job_images(settings), test_set(named, settings)
    directory = run_folder(f"{named.title.replace(':', '-')}-{settings.method}", run_directory, settings.run)
    dense_peak = int(PeakMemory()(trace(dense, inputs)))
    limit = settings.budget_mib * MIB if settings.budget_mib is not None else dense_peak * (settings.fraction or 1.0)
    plan = _starting_plan(named, inputs, settings)
    network: nn.Module = dense
    with open_run_directory(directory, read, resume=resume) as folder:
        if settings.transforms:
            network, plan = apply_free_transforms(dense, inputs, plan)
        transformed_peak = int(PeakMemory()(trace(network, inputs)))
        fit = fit_memory(
            network,
            inputs,
            calibration_batches(named, settings, images),
            limit,
            method=settings.method,  # type: ignore[arg-type]
            compactors=settings.compactors,
            rules=WidthRules(settings.step, settings.minimum),
            plan=plan,
        )
        tune(fit.model, named, images, settings, folder, resume=resume)
        fit.model.eval()
        save_model(fit.model, fit.plan, folder)
        content = report_content(settings, named, fit, inputs, tested, dense_peak, transformed_peak, limit, folder)
        write_report(folder, content)
    return Compressed(dense, fit.model, fit, dense_peak, transformed_peak, folder, content)


def _starting_plan(named: RestorationNetwork, inputs: tuple[Tensor, ...], settings: CompressSettings) -> Plan:
    """Returns the plan that leads to the network given: that of its run, when it is compressed again."""
    plan = first_plan(named.model, named.name, named.arguments, inputs, seed=settings.seed)
    return plan if named.plan is None else replace(plan, model=named.plan.model, steps=named.plan.steps)
