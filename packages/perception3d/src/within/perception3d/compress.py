"""The main job: a detector that predicts importance in, one within a budget out; `within perception3d compress`.

open -> choose drop rates and widths -> train on -> measure -> report

The run directory receives config.py, plan.json (the variant with its new arguments), model.safetensors, metrics.json
and report.html. Training that was interrupted continues.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch

from within.core.checkpoint import save_model
from within.core.cli.configuration import read_config, read_dataclass
from within.core.cli.run_directory import open_run_directory, run_folder
from within.core.errors import WithinError
from within.core.named_network import NamedNetwork, first_plan
from within.core.report import ReportContent, write_report
from within.core.train.launch import launch
from within.perception3d.ada3d.drop_rate_solver import RateSolution, Sample, pass_costs, solve_rates
from within.perception3d.ada3d.thinning import Ada3D, DropRates
from within.perception3d.anchor_loss import AnchorLossWeights
from within.perception3d.bev_pruning import prune_widths
from within.perception3d.compress_report import report_content
from within.perception3d.compress_settings import DetectorCompression
from within.perception3d.data.scene import Scenes
from within.perception3d.detection_objective import detection_objective
from within.perception3d.named_detector import open_detector
from within.perception3d.scene_sources import find_scenes
from within.perception3d.train import train_detector
from within.perception3d.training_scenes import TrainingScenes


@dataclass(frozen=True, eq=False)
class CompressedDetector:
    """What the job made.

    Attributes:
        dense, model: the network before, computed densely, and after.
        solution: what was chosen.
        folder: the run directory.
        content: the report.
    """

    dense: Any
    model: Ada3D
    solution: RateSolution
    folder: Path
    content: ReportContent


def main(
    config: str | Path | Mapping[str, Any],
    *,
    run_directory: str | Path | None = None,
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> CompressedDetector:
    """Compresses the detector of a job and writes the run directory.

    Arguments:
        config: a Python configuration or the settings themselves (see `DetectorCompression`).
        run_directory: instead of the configured one; `runs/NETWORK-compressed` by default.
        resume: continue an interrupted job.
        overrides: settings that replace those of the file.

    Raises:
        WithinError: when the budget cannot be met, and for whatever is wrong with settings, weights or data.
    """
    read, where = read_config(config, overrides)
    settings = read_dataclass(DetectorCompression, read.to_dict(), where)
    device = launch(settings.device).device
    torch.manual_seed(settings.seed)
    named = open_detector(settings.network, weights=settings.weights, arguments=settings.arguments)
    if not isinstance(named.model, Ada3D):
        raise WithinError(
            "The detector predicts no importance", where=named.name, todo="train the stage `importance` first"
        )
    scenes, test = find_scenes(settings.data, settings.split), find_scenes(settings.data, settings.test)
    if settings.limit is not None:
        test = test.take(range(min(settings.limit, len(test))))
    directory = run_folder(f"{named.title}-compressed", run_directory, settings.run)
    with open_run_directory(directory, read, resume=resume) as folder:
        dense = copy.deepcopy(named.model.detector).eval()
        dense.execution = "dense"
        solution, model, arguments = choose(named, dense, scenes, settings)
        if settings.tuning is not None:
            train_detector(
                model, scenes, settings.tuning, stage="tuning", loss=settings.loss, anchor_loss=AnchorLossWeights(),
                augmentation=settings.augmentation, run_directory=folder, resume=resume, seed=settings.seed,
                device=device, description="Training on",
            )  # fmt: skip
        save_model(model, first_plan(model, named.name, arguments, seed=settings.seed), folder)
        content = report_content(settings, named, dense, model, solution, test, device)
        write_report(folder, content)
    return CompressedDetector(dense, model, solution, folder, content)


def choose(
    named: NamedNetwork, dense: Any, scenes: Scenes, settings: DetectorCompression
) -> tuple[RateSolution, Ada3D, dict[str, Any]]:
    """Returns what was chosen, the network with it, and its constructor arguments.

    Raises:
        WithinError: when the budget cannot be met.
    """
    network = named.model
    assert isinstance(network, Ada3D)
    samples = labelled_samples(network, scenes, settings.scenes)
    pruned = {
        f"{width:.0%}": prune_widths(network, widths=float(width), importance=settings.importance)
        for width in settings.widths
        if width != 1
    }
    candidates = {"100%": network, **{name: each.network for name, each in pruned.items()}}

    def loss(candidate: Ada3D, sample: Sample) -> float:
        objective = detection_objective(candidate, settings.loss, AnchorLossWeights())
        return float(torch.stack(list(objective(candidate, *sample).values())).sum())

    kind = "macs" if settings.macs is not None else "latency"
    solution = solve_rates(
        candidates,  # type: ignore[arg-type]
        samples,
        loss,
        dense_cost=pass_costs(dense, samples, kind),  # type: ignore[arg-type]
        fraction=settings.fraction,
        kind=kind,  # type: ignore[arg-type]
        levels=settings.levels,
    )
    chosen = candidates[solution.name]
    assert isinstance(chosen, Ada3D)
    places = list(solution.rates.voxels), list(solution.rates.pixels)
    model = _narrowed(chosen, solution.rates, (tuple(places[0]), tuple(places[1])))
    rates = {
        "voxels": {str(at): keep for at, keep in solution.rates.voxels.items()},
        "pixels": {str(at): keep for at, keep in solution.rates.pixels.items()},
        "density": solution.rates.density,
    }
    arguments = {**named.arguments, "drop_rates": rates, "places": [list(each) for each in places]}
    if solution.name in pruned:
        arguments["blocks"] = [list(astuple(block)) for block in pruned[solution.name].blocks]
    return solution, model, arguments


def labelled_samples(network: Ada3D, scenes: Scenes, count: int) -> list[Sample]:
    """Returns inputs and targets of some scenes, spread evenly, one scene each."""
    detector = network.detector
    source = TrainingScenes(
        scenes, detector.grid, detector.classes, None, values=detector.values, columns=detector.columns
    )
    count = min(count, len(source))
    rows = torch.linspace(0, len(source) - 1, count).round().long()
    return [source.batch(row[None], torch.Generator()) for row in rows]


def _narrowed(network: Ada3D, rates: DropRates, places: tuple[tuple[int, ...], tuple[int, ...]]) -> Ada3D:
    """Returns a copy that is asked only where something is dropped."""
    found = copy.deepcopy(network)
    found.rates, found.places = rates, places
    for kept, embeddings in zip(
        places, (found.predictor.voxel_embeddings, found.predictor.map_embeddings), strict=True
    ):
        for at in [int(name) for name in embeddings if int(name) not in kept]:
            del embeddings[str(at)]
    return found
