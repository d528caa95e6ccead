"""The report of a compression job: quality, memory, cost and pictures, before and after."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from within.core.cost import Macs, ModelBytes, Params, PeakMemory
from within.core.device.export import export_onnx
from within.core.device.measure import measure
from within.core.device.memory import live_graph_measured
from within.core.graph import trace
from within.core.report import (
    BudgetRow,
    Certificate,
    CostRow,
    ImageStrip,
    Picture,
    QualityRow,
    ReportContent,
    ReportTable,
    collect_provenance,
    difference_picture,
)
from within.core.report.from_graph import group_widths, memory_timeline, notices
from within.lowlevel.compress_job import SAMPLES, TestSet, test_images
from within.lowlevel.compress_settings import CompressSettings
from within.lowlevel.data.folders import DegradedImages, PairedImages, open_source
from within.lowlevel.data.images import to_image, to_tensor
from within.lowlevel.data.sources import ImageSource, load_all
from within.lowlevel.eval import evaluate, restore
from within.lowlevel.fit_memory import METHODS, MemoryFit
from within.lowlevel.metrics import Metric, psnr
from within.lowlevel.named_network import RestorationNetwork

STRIPS = 2  # sample images in the report
CROP = 192  # their size, so that single pixels can be seen
MIB = 2**20


def report_content(
    settings: CompressSettings,
    named: RestorationNetwork,
    fit: MemoryFit,
    inputs: tuple[Tensor, ...],
    tested: TestSet | None,
    dense_peak: int,
    transformed_peak: int,
    limit: float,
    folder: Path,
) -> ReportContent:
    """Exports and measures the result, and returns what there is to say."""
    dense = named.model
    exported = export_onnx(fit.model, inputs, folder / "model.onnx")
    dense_graph, slim_graph = trace(dense, inputs), trace(fit.model, inputs)
    pair = named.at_level(dense, settings.sigma), named.at_level(fit.model, settings.sigma)
    quality: tuple[QualityRow, ...] = ()
    strips: tuple[ImageStrip, ...] = ()
    if tested is not None:
        quality, strips = _quality(*pair, *tested), _strips(*pair, tested[0])
    elif settings.test is not None:
        quality = (_fidelity(*pair, _unpaired(named, settings)),)
    check = exported.verification
    height, width = settings.size
    removed = sum(len(step.removed) > 0 for step in fit.steps)
    return ReportContent(
        title=f"{named.name} within {limit / MIB:.1f} MiB",
        summary=f"{named.name} at {height}x{width}, fitted by {METHODS[settings.method]}"
        f"{f' in {removed} strides' if removed else ''}; fine-tuned for {settings.fine_tuning.iterations} iterations.",
        quality=quality,
        costs=(
            *_costs(dense, dense_graph, fit, slim_graph, inputs),
            *_latency(settings, dense, folder / "model.onnx", inputs),
        ),
        budgets=(BudgetRow("peak memory (live_graph)", "B", limit, fit.peak, dense_peak),),
        certificate=Certificate(
            "optimal widths for the measured sensitivities" if fit.gap is not None and fit.gap < 1e-9 else "feasible",
            fit.gap,
            fit.masked_slim_error,
            (
                f"peak after the free transforms, before pruning: {transformed_peak / MIB:.2f} MiB",
                "ONNX against the model at "
                + ", ".join(" and ".join("x".join(map(str, shape)) for shape in shapes) for shapes in check.shapes)
                + f": largest relative difference {check.max_relative:.1e}",
            ),
        ),
        memory=(memory_timeline("dense", dense_graph), memory_timeline("compressed", slim_graph)),
        widths=group_widths(fit.measured.deployed, fit.widths),
        strips=strips,
        tables=(_plan_table(fit),),
        notices=notices(fit.measured.deployed),
        provenance=collect_provenance(settings.seed),
    )


def _quality(
    dense: nn.Module, slim: nn.Module, data: DegradedImages | PairedImages, metrics: Sequence[Metric], description: str
) -> tuple[QualityRow, ...]:
    before, after = evaluate(dense, data, metrics), evaluate(slim, data, metrics)
    rows = []
    for metric in metrics:
        unit, places = ("dB", 2) if metric.name.lower().startswith("psnr") else ("", 4)
        rows.append(
            QualityRow(
                f"{metric.title} on {description}",
                unit,
                before.mean[metric.name],
                after.mean[metric.name],
                places=places,
            )
        )
    return tuple(rows)


def _unpaired(named: RestorationNetwork, settings: CompressSettings) -> ImageSource:
    return test_images(named) if settings.test == SAMPLES else load_all(open_source(str(settings.test)))


def _fidelity(dense: nn.Module, slim: nn.Module, images: ImageSource) -> QualityRow:
    """How near the compressed network is to the dense one: all that can be said where there are no clean images."""
    values = []
    for name in images.sizes:
        image = to_tensor(images.read(name))
        values.append(psnr(restore(slim, image).clamp(0, 1), restore(dense, image).clamp(0, 1)))
    return QualityRow(f"PSNR against the dense network's output on {images.origin}", "dB", None, float(np.mean(values)))


def _strips(dense: nn.Module, slim: nn.Module, data: DegradedImages | PairedImages) -> tuple[ImageStrip, ...]:
    strips = []
    for index in range(min(STRIPS, len(data))):
        item = data[index]
        clean, first, second = item["gt"], restore(dense, item["lq"]), restore(slim, item["lq"])
        scale = clean.shape[-1] // item["lq"].shape[-1]
        pictures = []
        for caption, tensor, own in (
            ("input", item["lq"], scale),
            ("dense", first, 1),
            ("compressed", second, 1),
            ("clean", clean, 1),
        ):
            value = None if own != 1 or caption == "clean" else float(psnr(tensor.clamp(0, 1), clean))
            pictures.append(Picture(caption, _crop(tensor.clamp(0, 1), CROP // own), value))
        pictures.insert(3, difference_picture(pictures[1].pixels, pictures[2].pixels))
        strips.append(ImageStrip(str(item["name"]), tuple(pictures)))
    return tuple(strips)


def _crop(image: Tensor, size: int) -> np.ndarray:
    height, width = image.shape[-2:]
    top, left = max((height - size) // 2, 0), max((width - size) // 2, 0)
    pixels = to_image(image[..., top : top + size, left : left + size])
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def _costs(dense, dense_graph, fit: MemoryFit, slim_graph, inputs) -> tuple[CostRow, ...]:  # type: ignore[no-untyped-def]
    predicted = fit.measured.deployed
    rows = [
        CostRow(
            "peak memory (live_graph)",
            "B",
            float(PeakMemory()(dense_graph)),
            float(PeakMemory()(predicted, fit.widths)),
            float(live_graph_measured(dense, inputs).bytes),
            float(live_graph_measured(fit.model, inputs).bytes),
            "storage counter",
        )
    ]
    for cost, unit in ((Macs(), "MAC"), (Params(), "parameters"), (ModelBytes(), "B")):
        rows.append(
            CostRow(
                cost.name,
                unit,
                float(cost(dense_graph)),
                float(cost(predicted, fit.widths)),
                float(cost(dense_graph)),
                float(cost(slim_graph)),
                "counted again on the smaller network",
            )
        )
    return tuple(rows)


def _latency(
    settings: CompressSettings, dense: nn.Module, path: Path, inputs: tuple[Tensor, ...]
) -> tuple[CostRow, ...]:
    if settings.runtime is None:
        return ()
    images = tuple(torch.rand_like(item) for item in inputs)
    with tempfile.TemporaryDirectory() as folder:
        dense_path = export_onnx(dense, inputs, Path(folder) / "dense.onnx").path
        times = measure({"dense": dense_path, "compressed": path}, images, runtime=settings.runtime, repeats=15)
    return (
        CostRow(
            "latency",
            "s",
            before_measured=times["dense"].median,
            after_measured=times["compressed"].median,
            instrument=f"{settings.runtime}, one thread, CPU time, median of {len(times['dense'].samples)} interleaved",
        ),
    )


def _plan_table(fit: MemoryFit) -> ReportTable:
    rows = []
    for step in fit.plan.steps:
        function = step.function.rpartition(":")[0].rpartition(".")[2] + "." + step.function.rpartition(":")[2]
        if "steps" in step.arguments:
            what = ", ".join(each["name"] for each in step.arguments["steps"])
        elif "skips" in step.arguments:
            what = f"{len(step.arguments['skips'])} compactors"
        else:
            what = f"{len(step.arguments['kept'])} channel groups cut"
        rows.append((function, what))
    return ReportTable("Plan", ("step", "what it does"), tuple(rows))
