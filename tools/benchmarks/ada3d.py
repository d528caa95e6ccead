"""Ada3D against the dense network and against narrower ones: precision, costs, and CPU time.

A CenterPoint trained on synthetic scenes (see `tools.benchmarks.training.ada3d_synthetic`), its variants A, B and C,
B without the density filter (all drop rates of one network), and a network narrowed to B's multiply-accumulates.
mAP is KITTI's 3-D average precision, moderate, 40 recalls, over the validation frames; costs are means over frames; CPU
time is one thread's, all networks in turns, norms folded in, of each frame the least of eight rounds. Sparse networks
compute boxes only where a score reaches that of a detection; B is timed with boxes everywhere as well. On the real
frames the 2-D part of the same networks is timed, and what is dropped is counted.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tools.benchmarks.networks.ada3d_networks import FOLDER, FRAMES, SEED, network, trained
from tools.benchmarks.networks.packed_weights import filled

from within.core.bench import BenchResult
from within.core.files import read_json
from within.core.progress import track
from within.perception3d.ada3d.diagnostics import DropCount, added, drop_counts
from within.perception3d.ada3d.thinning import Ada3D
from within.perception3d.center_decoding import Decoding, decode_centers
from within.perception3d.data.kitti import KittiFrames, find_kitti
from within.perception3d.detector_timing import time_detectors
from within.perception3d.eval import KittiEvaluation, evaluate
from within.perception3d.models.bev_map import dense
from within.perception3d.models.folding import folded
from within.perception3d.named_detector import Network, detector_of, map_grid, task_labels
from within.perception3d.synthetic_kitti import VALIDATION_EVERY, write_scenes
from within.perception3d.training_scenes import network_inputs, within_region

NAMES = ("dense", "narrow", "sparse", "A", "B", "B plain", "C")
MADE_BY = "python -m tools.benchmarks.training.ada3d_synthetic --directory runs/ada3d"
TIMED, ROUNDS = 5, 8
MOST_MACS, MOST_TIME, MOST_LOST = 0.20, 0.30, 1.0
MOST_DIFFERENCE = 1e-4
LEAST_SCORE = Decoding().least_score
EVERYWHERE = "B, boxes everywhere"
LEAST_REAL_SPEED, MOST_IN_BOX = 5.0, 0.05
MOST_MINUTES = 60
QUICK_FRAMES = 100


def run(full: bool = False) -> BenchResult:
    """Measures the stored networks on half of the validation frames; `full` on all of them."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    networks = {name: filled(network(name), FOLDER, trained(name), made_by=MADE_BY) for name in NAMES}
    with tempfile.TemporaryDirectory() as folder:
        scenes = _validation(Path(folder), FRAMES if full else QUICK_FRAMES * VALIDATION_EVERY)
        found = {name: evaluate(each, scenes, description=f"Evaluating {name}") for name, each in networks.items()}  # type: ignore[arg-type]
        clouds = [scenes.scene(index).points for index in range(TIMED)]
        flat = {name: folded(each, least_score=LEAST_SCORE) for name, each in networks.items()}
        flat[EVERYWHERE] = folded(networks["B"])
        times = time_detectors(flat, clouds, repeats=ROUNDS)
        differences = _masked_differences(networks["B"], scenes)  # type: ignore[arg-type]
        boxes = _box_differences(networks["B"], flat["B"], scenes)
    real = _on_real_frames(networks)  # type: ignore[arg-type]
    minutes = read_json(FOLDER / "training.json")["cpu_minutes"]
    base = times["dense"]
    rows = []
    figures: dict[str, Any] = {}
    for name in (*NAMES, EVERYWHERE):
        ratio = times[name].cost.over(base.cost)
        precision = found.get(name, found["B"])
        mean = precision.mean
        seconds = times[name].total / base.total
        rows.append(
            (name, *(f"{ratio[part][0]:.3f}" for part in ("3d", "2d", "head", "total")), f"{ratio['total'][1]:.3f}",
             f"{seconds:.3f}", f"{1e3 * times[name].total:.1f}", f"{mean:.2f}", *_by_class(precision))
        )  # fmt: skip
        figures[name] = {
            "macs": {part: round(value[0], 4) for part, value in ratio.items()},
            "memory": round(ratio["total"][1], 4), "cpu_time": round(seconds, 4), "mAP": round(mean, 2),
        }  # fmt: skip
    lost = found["dense"].mean - found["B"].mean
    checks = {
        "B: MACs": figures["B"]["macs"]["total"] <= MOST_MACS,
        "B: CPU time": figures["B"]["cpu_time"] <= MOST_TIME,
        "B: mAP": lost <= MOST_LOST,
        "density filter": found["B"].mean >= found["B plain"].mean,
        "sparse == masked": differences <= MOST_DIFFERENCE,
        "boxes where scores are high": boxes <= MOST_DIFFERENCE,
        "training time": minutes <= MOST_MINUTES,
    }
    if real is not None:
        checks["real frames: speed of the 2-D part"] = real["speed"] >= LEAST_REAL_SPEED
        checks["real frames: in-box drop"] = max(each["in_box"] for each in real["dropped"]) <= MOST_IN_BOX
    missed = [name for name, good in checks.items() if not good]
    figures |= {
        "frames": len(scenes), "lost_by_B": round(lost, 2), "masked_difference": differences,
        "box_difference": boxes, "real_frames": real,
        "training_cpu_minutes": minutes, "missed": missed,
        "seconds": round(time.perf_counter() - started),
    }  # fmt: skip
    columns = (
        "network", "3-D MACs", "2-D", "head", "total", "memory", "CPU time", "ms", "mAP", "Car", "Pedestrian",
        "Cyclist",
    )  # fmt: skip
    return BenchResult("ada3d", not missed, figures, columns, rows)


def _validation(folder: Path, count: int) -> KittiFrames:
    """Writes the first frames of the series and returns those for validation."""
    write_scenes(folder, count, SEED)
    return find_kitti(folder, "val")


def _by_class(found: KittiEvaluation) -> tuple[str, ...]:
    return tuple(f"{found.summary()[name]:.1f}" for name in found.classes)


def _masked_differences(network: Ada3D, scenes: KittiFrames) -> float:
    """Returns the largest difference of any output between sparse and masked dense execution, on ten frames."""
    detector, largest = network.detector, 0.0
    with torch.no_grad():
        for index in track(range(min(10, len(scenes))), "Masked against sparse"):
            inputs = network_inputs([scenes.scene(index).points], detector.grid, detector.columns)
            outputs = []
            for execution in ("masked", "sparse"):
                detector.execution = execution
                outputs.append(network(*inputs))
            for one, two in zip(*outputs, strict=True):
                largest = max(largest, *(float((dense(one[name]) - dense(two[name])).abs().max()) for name in one))
    return largest


def _box_differences(network: Ada3D, fast: Any, scenes: KittiFrames) -> float:
    """Returns the largest difference of any number of a detection, infinity where one is missing, on ten frames."""
    grid, tasks, largest = map_grid(network), task_labels(network), 0.0
    with torch.no_grad():
        for index in range(min(10, len(scenes))):
            inputs = network_inputs([scenes.scene(index).points], network.detector.grid, network.detector.columns)
            (one,), (two,) = (decode_centers(each(*inputs), tasks, grid) for each in (network, fast))
            if len(one.boxes) != len(two.boxes):
                return math.inf
            largest = max(largest, float(np.abs(one.boxes - two.boxes).max(initial=0)))
    return largest


def _on_real_frames(networks: dict[str, Network]) -> dict[str, Any] | None:
    """Returns the speed of B's 2-D part over the dense one and what it drops, or None without the frames."""
    folder = Path(os.environ.get("WITHIN_DATA", "")) / "perception3d" / "kitti"
    if not folder.is_dir():
        return None
    frames = find_kitti(folder, "all")
    clouds = [frames.scene(index).points for index in range(len(frames))]
    pair = {name: folded(networks[name], least_score=LEAST_SCORE) for name in ("dense", "B")}
    times = time_detectors(pair, clouds, repeats=ROUNDS)
    one, two = (times[name].seconds["2d"] + times[name].seconds["head"] for name in ("dense", "B"))
    thinned = networks["B"]
    assert isinstance(thinned, Ada3D)
    detector, grid = detector_of(thinned), map_grid(thinned, thinned.predictor.stride)
    totals: list[DropCount] = []
    with torch.no_grad():
        for index in range(len(frames)):
            scene = within_region(frames.scene(index), detector.grid)
            _, choices = thinned.run(*network_inputs([scene.points], detector.grid, detector.columns))
            rows = [row for row, name in enumerate(scene.classes) if name in detector.classes]
            totals = added(totals, drop_counts(choices, scene.boxes[rows], grid))
    return {
        "frames": len(frames),
        "speed": round(one / two, 2),
        "dense_ms": round(1e3 * one, 1),
        "B_ms": round(1e3 * two, 1),
        "dropped": [
            {"place": f"{each.kind} {each.at}", "occupied": round(each.occupancy, 4),
             "dropped": round(each.drop_rate, 4), "in_box": round(each.in_box_drop_rate, 4)}
            for each in totals
        ],
    }  # fmt: skip
