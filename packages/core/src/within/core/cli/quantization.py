"""A quantisation from its configuration to its run directory.

build -> fold, place, calibrate, correct -> sensitivities -> train -> save -> export -> compare -> measure -> report
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from within.core.checkpoint import load_tensors, save_model
from within.core.cli.configuration import load_config
from within.core.cli.factory import build_model, build_with_weights, example_inputs, find_factory
from within.core.cli.quantization_job import LAYOUTS, QuantizationJob, TrainingSettings, read_job
from within.core.cli.run_directory import MODEL, load_run, open_run_directory, run_folder
from within.core.cli.settings import shape_texts
from within.core.device.export import export_onnx
from within.core.device.inference import positional
from within.core.device.measure import measure
from within.core.distill import KnowledgeDistillation
from within.core.plan import Plan, read_plan
from within.core.quantize import QuantizationResult, QuantizedOnnx, export_quantized, quantize
from within.core.quantize.bit_budget import BitBudget, ChosenBits, bits_within
from within.core.quantize.exchange import quantized_from
from within.core.quantize.fake_quantize import FakeQuantize
from within.core.quantize.sensitivity import LayerSensitivity, layer_sensitivities
from within.core.report import (
    Certificate,
    CostRow,
    ImageStrip,
    Notice,
    ReportContent,
    ReportTable,
    collect_provenance,
    quality_rows,
    write_report,
)
from within.core.report.bar_chart import bar_chart
from within.core.train import fit
from within.core.train.quantization_hook import QuantizationHook


def run_quantization(
    config_path: Path, output: Path | None = None, *, resume: bool = False
) -> tuple[Path, ReportContent]:
    """Quantises a model as its configuration says and writes the run directory.

    Arguments:
        config_path: the configuration.
        output: the run directory, instead of the configured one.
        resume: continue training that was interrupted in that directory.

    Returns:
        The run directory, and what its report says.

    Raises:
        WithinError: for whatever is wrong with the configuration, the model, the calibration or the directory.
    """
    config = load_config(config_path)
    job = read_job(config.to_dict(), where=str(config_path))
    torch.manual_seed(job.seed)
    batches = list(find_factory(job.calibration)()) if job.calibration else []
    with open_run_directory(run_folder(config_path.stem, output, job.output), config, resume=resume) as folder:
        model, inputs, result, chosen = _quantised(job, batches)
        sensitivities = layer_sensitivities(result.quantized, batches) if batches else []
        if job.training is not None:
            _train(TrainingSettings(**job.training), model, result, folder / "training", job.seed, resume)
        exported = export_quantized(
            result.model,
            inputs,
            folder / MODEL,
            exporter=job.exporter,  # type: ignore[arg-type]
            check=[positional(batch) for batch in batches[:4]],
        )
        save_model(result.model, result.plan, folder)
        content = _report(job, model, inputs, result, exported, sensitivities, chosen)
        write_report(folder, content)
    return folder, content


def _source(job: QuantizationJob) -> tuple[nn.Module, tuple[Any, ...], Plan | None]:
    if "run" in job.model:
        model, inputs = load_run(job.model["run"])
        return model.eval(), inputs, read_plan(Path(job.model["run"]) / "plan.json")
    return build_with_weights(job.model).eval(), example_inputs(shape_texts(job.inputs), job.seed), None


def _quantised(
    job: QuantizationJob, batches: Sequence[Any]
) -> tuple[nn.Module, tuple[Any, ...], QuantizationResult, ChosenBits | None]:
    """Returns the network in floating point, example inputs, the quantised network, and the bits chosen for it."""
    layout = job.model.get("layout")
    if layout is None:
        model, inputs, plan = _source(job)
        if job.mixed is None:
            return model, inputs, quantize(model, inputs, batches, job.quantization, plan=plan), None
        chosen = bits_within(model, inputs, batches, BitBudget(**job.mixed))
        settings = {**job.quantization, "bits": chosen.bits}
        return model, inputs, quantize(model, inputs, batches, settings, plan=plan), chosen
    model = build_model(job.model["factory"], job.model.get("arguments")).eval()
    inputs = example_inputs(shape_texts(job.inputs), job.seed)
    state = LAYOUTS[layout].read(load_tensors(job.model["weights"]))
    result = quantized_from(model, inputs, state, ignore=job.model.get("ignore", ()))
    model.load_state_dict(dict(state.parameters))
    return model, inputs, result, None


def _train(
    settings: TrainingSettings, model: nn.Module, result: QuantizationResult, folder: Path, seed: int, resume: bool
) -> None:
    distilled = settings.distillation is not None
    fit(
        result.model,
        find_factory(settings.data)(),
        iterations=settings.iterations,
        batch_size=settings.batch_size,
        loss=find_factory(settings.loss) if settings.loss else None,
        teacher=model if distilled else None,
        distillation=[KnowledgeDistillation(**settings.distillation)] if settings.distillation is not None else (),
        optimizer=settings.optimizer,
        schedule=settings.schedule,
        hooks=[QuantizationHook(settings.activations_from, settings.freeze_ranges_at)],
        run_directory=folder,
        resume=resume,
        seed=seed,
        description="Training with the quantisers in place",
    )
    result.model.eval()


def _report(
    job: QuantizationJob,
    model: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    result: QuantizationResult,
    exported: QuantizedOnnx,
    sensitivities: Sequence[LayerSensitivity],
    chosen: ChosenBits | None,
) -> ReportContent:
    settings = result.settings
    name = str(job.model.get("factory", job.model.get("run")))
    rows = tuple((each.layer, each.weight_bits, each.activation_bits, each.error) for each in sensitivities)
    chart = bar_chart(
        [each.layer for each in sensitivities],
        [each.error for each in sensitivities],
        "relative squared error of the answer, this layer alone",
        "sensitivity of each layer",
    )
    columns = ("layer", "weight bits", "input bits", "relative squared error alone")
    return ReportContent(
        title=f"{name}, quantised",
        summary=f"{_bits_in_words(result)}, for {settings.target}; ranges {_ranges_in_words(job)}, correction of "
        f"{settings.correction}.",
        quality=quality_rows(find_factory(job.evaluate) if job.evaluate else None, model, result.model),
        costs=_costs(job, model, inputs, exported),
        certificate=Certificate(
            "post-training quantisation" if job.training is None else "quantisation-aware training",
            None,
            None,
            (
                "ONNX Runtime against exact integers, each operator on the values before it: at most "
                f"{exported.steps:.3g} steps of its grid",
                f"from end to end: at most {exported.units:.3g} units of the output's grid, {exported.differing:.2%} "
                f"of the values differ, argmax agrees in {exported.argmax_agreement:.2%}",
                *(() if chosen is None else (_budget_in_words(chosen),)),
                f"on integers in the file: {', '.join(f'{n} {k}' for k, n in exported.integer_operators.items())}",
            ),
        ),
        strips=(ImageStrip("Sensitivity", (chart,)),) if sensitivities else (),
        tables=(ReportTable("Layers", columns, rows),) if sensitivities else (),
        notices=tuple(
            Notice(f"{each.name} ({each.kind})", f"stays in floating point: {each.reason}") for each in result.left
        ),
        provenance=collect_provenance(job.seed),
    )


def _bits_in_words(result: QuantizationResult) -> str:
    words = []
    for what, paths in (("weights", result.quantized.weights), ("activations", result.quantized.activations)):
        parts = [result.model.get_submodule(path) for path in paths]
        widths = [part.grid.bits for part in parts if isinstance(part, FakeQuantize)]
        ends = dict.fromkeys((min(widths), max(widths))) if widths else {}
        words.append(f"{what} of {' to '.join(map(str, ends))} bits" if ends else f"{what} in floating point")
    return ", ".join(words)


def _ranges_in_words(job: QuantizationJob) -> str:
    return f"of {job.model['layout']}" if job.model.get("layout") else f"by {job.quantization.get('calibrator', 'max')}"


def _budget_in_words(chosen: ChosenBits) -> str:
    found, unit = chosen.allocation, chosen.table.unit
    proof = "" if found.gap is None else f", optimality gap {found.gap:.2g}"
    return f"bits of each layer by the {found.method}: cost {found.cost:,.0f} of {chosen.limit:,.0f} {unit}{proof}"


def _costs(
    job: QuantizationJob, model: nn.Module, inputs: tuple[torch.Tensor, ...], exported: QuantizedOnnx
) -> tuple[CostRow, ...]:
    """Returns file size and latency of the float and the quantised file."""
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(model, inputs, Path(folder) / MODEL).path
        sizes = (float(path.stat().st_size), float(exported.file_bytes))
        rows = [CostRow("model file", "B", before_measured=sizes[0], after_measured=sizes[1], instrument="ONNX file")]
        for name in job.runtimes:
            times = measure({"float": path, "quantised": exported.path}, inputs, runtime=name)
            instrument = f"{name}, one thread, CPU time, median of {len(times['float'].samples)} interleaved runs"
            rows.append(
                CostRow(
                    f"latency, {name}",
                    "s",
                    before_measured=times["float"].median,
                    after_measured=times["quantised"].median,
                    instrument=instrument,
                )
            )
    return tuple(rows)
