"""Pruned and on integers against dense and in float: SwiftNet on ResNet-18, trained on CamVid, at 256x512.

ONNX Runtime and OpenVINO, one thread, CPU time, all in turns in one process. Images of CamVid (360x480) are scaled to
256 rows and extended to 512 columns; mean IoU is over the 101 validation images at the size of the labels, and that of
the integers is what the runtime says, not the simulation.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tools.benchmarks.networks.board_networks import dense_network, pruned_network
from tools.benchmarks.networks.camvid_study import segmentation_data
from tools.benchmarks.networks.timed_series import timed_series
from torch import Tensor

from within.core.bench import BenchResult
from within.core.device import Session, export_onnx, runtime
from within.core.device.measure import ratio_of
from within.core.errors import WithinError
from within.segmentation.data import SegmentationPairs, find_dataset
from within.segmentation.eval import evaluate
from within.segmentation.int8 import calibration_images, export_int8, quantised
from within.segmentation.prediction import Forward, predict

SIZE, SCALED = (256, 512), (256, 341)
CALIBRATION, ROUNDS, SERIES = 32, 20, 3
LEAST_SPEED, MOST_LOST, LEAST_AGREEMENT = 4.5, 1.0, 0.999
ENGINES = ("onnxruntime", "openvino")
RECIPE: dict[str, Any] = {"calibrator": "mse", "correction": "moments"}


def run(full: bool = False) -> BenchResult:
    """Measures; `full` takes four times as many rounds."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    data = segmentation_data() / "camvid"
    training, validation = find_dataset(data, "train"), find_dataset(data, "val")
    images = [extended(image) for image in calibration_images(training, CALIBRATION, SCALED)]
    networks = {"dense": dense_network(), "pruned": pruned_network()}
    agreement, steps = {}, {}
    sessions: dict[tuple[str, str], Session] = {}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Path] = {}
        for name, network in networks.items():
            files[name] = export_onnx(network, (images[0],), Path(folder) / f"{name}.onnx", dynamic=False).path
            integers = export_int8(quantised(network, images, RECIPE), images, Path(folder) / f"{name}8.onnx")
            files[f"{name}, INT8"] = integers.path
            steps[name] = integers.steps
        for engine in ENGINES:
            for name, path in files.items():
                try:
                    sessions[name, engine] = runtime(engine).load(path)
                except WithinError as error:
                    missing[f"{name}, {engine}"] = error.what
        times = timed_series(sessions, images[0], series=SERIES * (4 if full else 1), rounds=ROUNDS)
    for name, network in networks.items():
        agreement[name] = _agreement(network, sessions[name, "onnxruntime"], validation)
    quality = {name: _mean_iou(network, validation) for name, network in networks.items()}
    rows = []
    for (name, engine), seconds in times.items():
        key = name if "INT8" not in name else f"{name}, {engine}"
        if key not in quality:
            quality[key] = _mean_iou(_runner(sessions[name, engine]), validation)
        speed, interval = ratio_of(times["dense", "onnxruntime"], seconds)
        own = ratio_of(times["dense", engine], seconds)[0]
        milliseconds = round(float(sorted(seconds)[len(seconds) // 2]) * 1e3, 2)
        ends = [round(end, 2) for end in interval]
        rows.append([name, engine, milliseconds, round(speed, 2), ends, round(own, 2), round(quality[key], 2)])
    final = {engine: ratio_of(times["dense", engine], times["pruned, INT8", engine])[0]
             for engine in ENGINES if ("pruned, INT8", engine) in times}  # fmt: skip
    best = max(final, key=lambda engine: final[engine])
    lost = {engine: quality["pruned"] - quality[f"pruned, INT8, {engine}"] for engine in final}
    missed = []
    if final[best] < LEAST_SPEED:
        missed.append(f"{final[best]:.2f} times as fast")
    missed += [f"INT8 loses {value:.2f} in {engine}" for engine, value in lost.items() if value > MOST_LOST]
    missed += [f"{name}: ONNX agrees in {value:.4%}" for name, value in agreement.items() if value < LEAST_AGREEMENT]
    figures = {
        "speed": {engine: round(value, 2) for engine, value in final.items()},
        "mean_iou": {name: round(value, 2) for name, value in quality.items()},
        "int8_lost": {engine: round(value, 2) for engine, value in lost.items()},
        "onnx_argmax_agreement": {name: round(value, 6) for name, value in agreement.items()},
        "int8_steps": {name: round(value, 3) for name, value in steps.items()},
        "missing": missing, "missed": missed, "seconds": round(time.perf_counter() - started),
    }  # fmt: skip
    columns = ["network", "runtime", "ms", "speed over dense ORT", "95 %", "over dense on it", "mIoU"]
    return BenchResult("board", not missed, figures, columns, rows)


def extended(image: Tensor) -> Tensor:
    """Returns an image of at most `SIZE`, extended to it by its last row and column."""
    below, right = SIZE[0] - image.shape[-2], SIZE[1] - image.shape[-1]
    return F.pad(image, (0, right, 0, below), mode="replicate") if below or right else image


def _runner(forward: Session | torch.nn.Module) -> Forward:
    """Returns a network for scaled images that sees them extended."""

    def run(image: Tensor) -> Tensor:
        given = extended(image)
        scores = forward.run([given])[0] if isinstance(forward, Session) else forward(given)
        return scores[..., : image.shape[-2], : image.shape[-1]]

    return run


def _mean_iou(forward: Forward | torch.nn.Module, pairs: SegmentationPairs) -> float:
    given = _runner(forward) if isinstance(forward, torch.nn.Module) else forward
    return 100 * evaluate(given, pairs, size=SCALED).scores().mean_iou


def _agreement(network: torch.nn.Module, session: Session, pairs: SegmentationPairs) -> float:
    """Returns the share of pixels with the same class in the float file and the network, over every fifth image."""
    same = count = 0
    for index in range(0, len(pairs), 5):
        image = pairs.read(index)[0][None].float()
        first, second = (predict(_runner(each), image, size=SCALED) for each in (network, session))
        same, count = same + int((first == second).sum()), count + first.numel()
    return same / count
