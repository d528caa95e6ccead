"""A published checkpoint through our data, network and metric: ESPNet on CamVid, in float and on integers.

The validation images are JPEG copies (quality 90, 4:4:4) of CamVid's, 360x480; mean IoU is that of one confusion matrix
over all of them, in the three conventions for void. The integers were calibrated on training images, with a recipe that
was chosen on training images, and are run by ONNX Runtime.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tools.benchmarks.networks.camvid_study import segmentation_data

from within.core.bench import BenchResult
from within.core.device import runtime
from within.segmentation.data import find_dataset
from within.segmentation.eval import Evaluation, evaluate
from within.segmentation.int8 import calibration_images, export_int8, quantised
from within.segmentation.metrics import VOID_CONVENTIONS
from within.segmentation.named_network import open_network

WEIGHTS = "espnet_p2_q8_camvid.safetensors"
EXPECTED = {"V0": 70.02, "V1": 68.58, "V2": 71.34}
PARAMETERS = 354_517
TOLERANCE, MOST_LOST = 0.05, 1.0
CALIBRATION = 32
RECIPE: dict[str, Any] = {"calibrator": "mse", "correction": "moments"}


def run(full: bool = False) -> BenchResult:
    """Evaluates both on the 101 validation images; `full` changes nothing."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    data = segmentation_data()
    network = open_network("espnet_camvid", weights=data / "weights" / WEIGHTS).model
    training, validation = (find_dataset(data / "camvid", split) for split in ("train", "val"))
    found = {"float": evaluate(network, validation, description="In float")}
    batches = calibration_images(training, CALIBRATION)
    simulated = quantised(network, batches, RECIPE)
    with tempfile.TemporaryDirectory() as folder:
        file = export_int8(simulated, batches, Path(folder) / "int8.onnx")
        session = runtime("onnxruntime").load(file.path)
        found["INT8"] = evaluate(lambda image: session.run([image])[0], validation, description="On integers")
    scores = {name: _in_per_cent(each) for name, each in found.items()}
    parameters = sum(value.numel() for value in network.parameters())
    missed = [
        f"{void}: {scores['float'][void]:.2f} instead of {expected}"
        for void, expected in EXPECTED.items()
        if abs(scores["float"][void] - expected) > TOLERANCE
    ]
    lost = scores["float"]["V0"] - scores["INT8"]["V0"]
    if lost > MOST_LOST:
        missed.append(f"INT8 loses {lost:.2f}")
    if parameters != PARAMETERS:
        missed.append(f"{parameters} parameters instead of {PARAMETERS}")
    figures = {
        "scores": scores, "expected": EXPECTED, "int8_lost": round(lost, 2), "parameters": parameters,
        "recipe": RECIPE, "onnxruntime_steps": file.steps, "argmax_agreement": file.argmax_agreement,
        "integer_operators": file.integer_operators, "missed": missed, "seconds": round(time.perf_counter() - started),
    }  # fmt: skip
    rows = [[name, *(each[key] for key in scores["float"])] for name, each in scores.items()]
    return BenchResult("espnet", not missed, figures, ["network", *scores["float"]], rows)


def _in_per_cent(found: Evaluation) -> dict[str, float]:
    first = found.scores()
    values = {void: found.scores(void).mean_iou for void in VOID_CONVENTIONS}
    values |= {"pixel accuracy": first.pixel_accuracy, "class accuracy": first.mean_class_accuracy}
    return {name: round(100 * value, 2) for name, value in values.items()}
