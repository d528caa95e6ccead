"""The report of a compression job of a detector: precision, costs, what was dropped, and pictures from above."""

from __future__ import annotations

from typing import Any

import torch

from within.core.device.inference import evaluating
from within.core.named_network import NamedNetwork
from within.core.report import (
    BudgetRow,
    Certificate,
    CostRow,
    ImageStrip,
    QualityRow,
    ReportContent,
    ReportTable,
    collect_provenance,
)
from within.perception3d.ada3d.diagnostics import DropCount, added, as_table, drop_counts, pixels_in_boxes
from within.perception3d.ada3d.drop_rate_solver import RateSolution
from within.perception3d.ada3d.thinning import Ada3D
from within.perception3d.bird_eye_view import strip
from within.perception3d.compress_settings import DetectorCompression
from within.perception3d.data.scene import Scenes
from within.perception3d.detector_timing import TimingResult, time_detectors
from within.perception3d.eval import detections_of, evaluate
from within.perception3d.models.detector import Detector
from within.perception3d.models.folding import folded
from within.perception3d.named_detector import map_grid
from within.perception3d.training_scenes import network_inputs, within_region


def report_content(
    settings: DetectorCompression,
    named: NamedNetwork,
    dense: Detector,
    model: Ada3D,
    solution: RateSolution,
    test: Scenes,
    device: torch.device,
) -> ReportContent:
    """Evaluates and measures the result, and returns what there is to say."""
    before = evaluate(dense, test, decoding=settings.decoding, device=device, description="Evaluating dense")
    after = evaluate(model, test, decoding=settings.decoding, device=device, description="Evaluating thinned out")
    clouds = [test.scene(index).points for index in range(min(settings.timed, len(test)))]
    times = TimingResult(time_detectors({"dense": folded(dense), "thinned out": folded(model)}, clouds))
    first, last = times.times["dense"], times.times["thinned out"]
    totals, strips = _looked_at(model, dense, test, settings)
    unit = "MAC" if settings.macs is not None else "s"
    name = "multiply-accumulates of a pass" if settings.macs is not None else "CPU time of a pass"
    data = f"{len(test)} frames of {settings.test}"
    first_figures, last_figures = before.summary(), after.summary()
    return ReportContent(
        title=f"{named.name}, thinned out",
        summary=_summary(solution),
        quality=tuple(
            QualityRow(f"{key} on {data}", "%", first_figures[key], last_figures[key])
            for key in first_figures
            if not key.endswith("R11")
        ),
        costs=(
            CostRow("multiply-accumulates", "MAC", first.cost.total_macs, last.cost.total_macs,
                    instrument="counted on the rulebooks"),
            CostRow("stored features", "B", first.cost.total_memory, last.cost.total_memory,
                    instrument="counted on the layers' outputs"),
            CostRow("CPU time", "s", before_measured=first.total, after_measured=last.total,
                    instrument=f"one thread, thread time, mean of {len(clouds)} frames, interleaved, norms folded in"),
        ),
        budgets=(BudgetRow(name, unit, solution.limit, solution.cost, solution.dense_cost),),
        certificate=Certificate("feasible", None, None, (_statement(solution, unit),)),
        strips=strips,
        tables=(times.table(), as_table(totals), _options(solution)),
        provenance=collect_provenance(settings.seed),
    )  # fmt: skip


def _summary(solution: RateSolution) -> str:
    parts = [f"{keep:.0%} of the columns stay after stage {at}" for at, keep in solution.rates.voxels.items()]
    parts += [f"{keep:.0%} of the pixels before convolution {at}" for at, keep in solution.rates.pixels.items()]
    dropped = "; ".join(parts) or "nothing is dropped"
    return f"{solution.name} of the widths of the 2-D backbone; {dropped}."


def _statement(solution: RateSolution, unit: str) -> str:
    return (
        f"chosen among all combinations of levels and widths; predicted {solution.predicted_cost:.4g} {unit}, "
        f"measured {solution.cost:.4g}"
    )


def _looked_at(
    model: Ada3D, dense: Detector, test: Scenes, settings: DetectorCompression
) -> tuple[list[DropCount], tuple[ImageStrip, ...]]:
    """Returns what was dropped on the frames that are shown, and their pictures."""
    totals: list[DropCount] = []
    strips = []
    grid = map_grid(model, model.predictor.stride)
    detector: Any = model.detector
    with evaluating(model), evaluating(dense), torch.no_grad():
        for index in range(min(settings.pictures, len(test))):
            scene = within_region(test.scene(index), detector.grid)
            _, choices = model.run(*network_inputs([scene.points], detector.grid, detector.columns))
            totals = added(totals, drop_counts(choices, scene.boxes, grid))
            found = detections_of(model, scene, settings.decoding)
            plain = detections_of(dense, scene, settings.decoding)
            strips.append(strip(scene, found, plain, choices, grid, pixels_in_boxes(scene.boxes, grid)))
    return totals, tuple(strips)


def _options(solution: RateSolution) -> ReportTable:
    rows = []
    for (kind, at), options in solution.options.items():
        place = f"after stage {at}" if kind == "3d" else f"before convolution {at}"
        chosen = (solution.rates.voxels if kind == "3d" else solution.rates.pixels).get(at, 1.0)
        rows += [
            (place, f"{each.keep:.0%}", round(each.added_loss, 4), "chosen" if each.keep == chosen else "")
            for each in options
        ]
    return ReportTable("What each share costs", ("place", "stays", "added loss", ""), tuple(rows))
