"""The report of a compression job: mIoU, costs, latency and pictures, before and after."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from within.core.cost import Macs, ModelBytes, Params, PeakMemory
from within.core.device import Timing, export_onnx, measure
from within.core.errors import WithinError
from within.core.graph import Graph, trace
from within.core.named_network import NamedNetwork
from within.core.pruning import PruneResult
from within.core.quantize import QuantizationResult, QuantizedOnnx
from within.core.quantize.sensitivity import layer_sensitivities
from within.core.report import (
    Certificate,
    CostRow,
    ImageStrip,
    Notice,
    QualityRow,
    ReportContent,
    ReportTable,
    collect_provenance,
)
from within.core.report.bar_chart import bar_chart
from within.core.report.from_graph import budget_rows, group_widths, memory_timeline
from within.segmentation.compress_settings import CompressSettings
from within.segmentation.data import SegmentationPairs
from within.segmentation.eval import Evaluation, evaluate
from within.segmentation.int8 import HalfPrecision, export_int8
from within.segmentation.metrics import VOID_CONVENTIONS, per_cent
from within.segmentation.pictures import strips

MODEL, INTEGERS = "model.onnx", "int8.onnx"
SENSITIVITY_IMAGES = 4


def report_content(
    settings: CompressSettings,
    named: NamedNetwork,
    model: nn.Module,
    pruned: PruneResult | None,
    integers: QuantizationResult | None,
    images: Sequence[Tensor],
    test: SegmentationPairs,
    folder: Path,
    device: torch.device,
) -> ReportContent:
    """Exports and measures the result, and returns what there is to say."""
    dense, size = named.model, settings.working_size
    example = (images[0],)
    networks: dict[str, nn.Module] = {"dense": dense}
    if pruned is not None:
        networks["pruned"] = model
    if settings.fp16:
        networks["FP16"] = HalfPrecision(model)
    if integers is not None:
        networks["INT8"] = integers.model
        integers.model.size_multiple = getattr(model, "size_multiple", 1)  # type: ignore[assignment]
    found = {
        name: evaluate(each, test, size=size, device=device, description=f"Evaluating {name}")
        for name, each in networks.items()
    }
    exported = export_onnx(model, example, folder / MODEL, dynamic=False)
    proven = None if integers is None else export_int8(integers, images, folder / INTEGERS)
    last = next(reversed(networks.values()))
    data = f"{test.label_map.name} {settings.test}, {len(test)} images"
    graphs = trace(dense, example), trace(model, example)
    sensitivity = _sensitivity(integers, images)
    check = exported.verification
    statements = [f"ONNX against the network: largest relative difference {check.max_relative:.1e}"]
    if proven is not None:
        statements.append(
            f"INT8 in ONNX Runtime against exact integers: at most {proven.steps:.3g} steps of an operator's grid, the "
            f"same class in {proven.argmax_agreement:.2%} of the pixels"
        )
    return ReportContent(
        title=f"{named.name}, compressed",
        summary=_summary(settings, size),
        quality=_quality(found, data),
        costs=(*_costs(*graphs), *_files(settings, dense, example, folder, proven)),
        budgets=() if pruned is None else budget_rows(pruned.certificate.achieved),
        certificate=Certificate(
            "feasible" if pruned is not None else "not cut",
            None,
            None if pruned is None else pruned.certificate.masked_slim_error,
            tuple(statements),
        ),
        memory=(memory_timeline("dense", graphs[0]), memory_timeline("compressed", graphs[1])),
        widths=() if pruned is None else group_widths(pruned.graph, pruned.widths),
        strips=(*strips(dense, last, test, size=size), *sensitivity[0]),
        tables=(_by_class(found, test), *sensitivity[1]),
        notices=()
        if integers is None
        else tuple(Notice(f"{each.name} ({each.kind})", f"stays in float: {each.reason}") for each in integers.left),
        provenance=collect_provenance(settings.seed),
    )


def _summary(settings: CompressSettings, size: tuple[int, int]) -> str:
    cut = "not cut"
    if settings.stages is not None:
        cut = f"stages {', '.join(map(str, settings.stages))} cut to {settings.fraction:.0%} of their widths"
    elif settings.budgets:
        cut = "cut to " + ", ".join(f"{value:.0%} of {name}" for name, value in settings.budgets.items())
    return f"At {size[0]}x{size[1]}; {cut}{'; quantised to 8 bits' if settings.int8 else ''}."


def _quality(found: Mapping[str, Evaluation], data: str) -> tuple[QualityRow, ...]:
    before = found["dense"]
    rows = []
    for name, after in list(found.items())[1:]:
        for metric, values in (
            ("mIoU (V0)", [each.scores().mean_iou for each in (before, after)]),
            ("pixel accuracy", [each.scores().pixel_accuracy for each in (before, after)]),
        ):
            rows.append(QualityRow(f"{metric} on {data}, {name}", "%", 100 * values[0], 100 * values[1]))
    return tuple(rows)


def _by_class(found: Mapping[str, Evaluation], test: SegmentationPairs) -> ReportTable:
    scores = {name: each.scores() for name, each in found.items()}
    rows = [
        (label, *(per_cent(score.class_iou[number]) for score in scores.values()))
        for number, label in enumerate(test.label_map.classes)
    ]
    for void in VOID_CONVENTIONS:
        rows.append((f"mean, {void}", *(per_cent(each.scores(void).mean_iou) for each in found.values())))
    note = "V0: void ignored; V1: void pixels count as false alarms; V2: void predictions are dropped too"
    return ReportTable("Intersection over union, %", ("class", *scores), tuple(rows), note)


def _sensitivity(
    integers: QuantizationResult | None, images: Sequence[Tensor]
) -> tuple[tuple[ImageStrip, ...], tuple[ReportTable, ...]]:
    if integers is None:
        return (), ()
    found = layer_sensitivities(integers.quantized, list(images[:SENSITIVITY_IMAGES]))
    title = "relative squared error of the scores, this layer alone"
    chart = bar_chart(
        [each.layer for each in found], [each.error for each in found], title, "sensitivity of each layer"
    )
    rows = tuple((each.layer, each.weight_bits, each.activation_bits, each.error) for each in found)
    columns = ("layer", "weight bits", "input bits", "relative squared error alone")
    return (ImageStrip("Sensitivity", (chart,)),), (ReportTable("Layers", columns, rows),)


def _costs(before: Graph, after: Graph) -> tuple[CostRow, ...]:
    costs = ((Macs(), "MAC"), (Params(), "parameters"), (ModelBytes(), "B"), (PeakMemory(), "B"))
    return tuple(
        CostRow(cost.name, unit, float(cost(before)), float(cost(after)), instrument="counted on the graph")
        for cost, unit in costs
    )


def _files(
    settings: CompressSettings,
    dense: nn.Module,
    example: tuple[Tensor, ...],
    folder: Path,
    proven: QuantizedOnnx | None,
) -> tuple[CostRow, ...]:
    """Returns size and latency of the files: dense, compressed in float, and on integers."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        files = {"dense": export_onnx(dense, example, Path(place) / MODEL, dynamic=False).path}
        files["float"] = folder / MODEL
        if proven is not None:
            files["INT8"] = proven.path
        sizes = {name: float(path.stat().st_size) for name, path in files.items()}
        for name in list(files)[1:]:
            rows.append(
                CostRow(f"ONNX file, {name}", "B", before_measured=sizes["dense"], after_measured=sizes[name],
                        instrument="file")
            )  # fmt: skip
        for runtime in settings.runtimes:
            times = _times(files, example, runtime)
            for name in list(files)[1:] if times else []:
                rows.append(
                    CostRow(
                        f"latency, {name}, {runtime}",
                        "s",
                        before_measured=times["dense"].median,
                        after_measured=times[name].median,
                        instrument=f"one thread, CPU time, median of {len(times[name].samples)} interleaved runs",
                    )
                )
    return tuple(rows)


def _times(files: Mapping[str, Path], example: tuple[Tensor, ...], runtime: str) -> dict[str, Timing]:
    try:
        return dict(measure(dict(files), example, runtime=runtime))
    except WithinError:
        if runtime == "onnxruntime":
            raise
        return {}  # an optional runtime that is not installed
