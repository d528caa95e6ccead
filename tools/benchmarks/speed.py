"""Speed of int8 on this CPU with what it costs in accuracy: ResNet-18 at 224x224, dense and pruned to half widths.

The pruned network, quantised by `quantize` and written by `export_quantized`, against the dense one in floating point
in ONNX Runtime; and beside it every other int8 path that is installed, on both networks. One process, one thread, all
models in turns, CPU time. Every row has its top-1 on labelled images, measured on the very model that is timed: of the
pruned network, which decides, on all 2,000, as the chance in a difference of two top-1 on 500 is larger than the half
point that is allowed (one image is 0.2 points); of the dense one on 500.
"""

from __future__ import annotations

import gc
import importlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tools.benchmarks.networks.real import cifar_images
from tools.benchmarks.networks.speed_images import enlarge
from tools.benchmarks.networks.speed_networks import SIZE, dense_network, pruned_network
from tools.benchmarks.networks.timed_series import timed_series
from tools.benchmarks.peers import model_optimizer, nncf_openvino, onnxruntime_static, torchao_pt2e
from tools.benchmarks.peers.peer import Peer, Subject
from torch import Tensor, fx

from within.core.bench import BenchResult
from within.core.device import Session, export_onnx, runtime
from within.core.device.measure import ratio_of
from within.core.errors import WithinError
from within.core.progress import track
from within.core.quantize import export_quantized, quantize
from within.core.quantize.export_check import compare_on_grid

LEAST_SPEED, MOST_DROP = 5.0, 0.5
CALIBRATION, DENSE_IMAGES, ROUNDS, SERIES, COMPARED = 128, 500, 30, 3, 50
OURS, FLOAT = "within u8s8", "fp32"
ORT, OPENVINO = "onnxruntime", "openvino"
PEERS = (
    Peer("ORT static s8s8", onnxruntime_static.signed, (ORT,)),
    Peer("ORT static u8s8", onnxruntime_static.unsigned_per_channel, (ORT,)),
    Peer("ModelOpt s8s8", model_optimizer.exported, (ORT, OPENVINO)),
    Peer("NNCF (OpenVINO)", nncf_openvino.openvino_model, (OPENVINO,)),
    Peer("NNCF (ONNX)", nncf_openvino.onnx_model, (ORT,)),
    Peer("torchao pt2e", torchao_pt2e.compiled, ("torch.compile",)),
)


@dataclass(frozen=True)
class Key:
    """What a row is about."""

    network: str
    path: str
    engine: str


def run(full: bool = False) -> BenchResult:
    """Quantises both networks in every way, times all, and scores all; `full` takes all images and more rounds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    calibration = list(enlarge(cifar_images("train", 0, CALIBRATION)[0], SIZE).split(1))
    images, labels = cifar_images("test")
    sessions: dict[Key, Session] = {}
    missing: dict[Key, str] = {}
    agreement: dict[str, Any] = {}
    precision = "OpenVINO is not there"
    with tempfile.TemporaryDirectory() as folder:
        for name, network in (("dense", dense_network()), ("half widths", pruned_network())):
            place = Path(folder) / name.replace(" ", "_")
            place.mkdir()
            onnx = export_onnx(network, (calibration[0],), place / "float.onnx", dynamic=False).path
            subject = Subject(network, onnx, calibration)
            _load(sessions, missing, name, Peer(FLOAT, lambda given, _: given.onnx, (ORT, OPENVINO)), subject, place)
            simulated, ours = _quantised(subject, place)
            _load(sessions, missing, name, Peer(OURS, lambda *_, file=ours: file, (ORT, OPENVINO)), subject, place)
            agreement[name] = _agreement(simulated, ours, enlarge(images[:COMPARED], SIZE))
            for peer in track(PEERS, f"Other int8 paths, {name}"):
                _load(sessions, missing, name, peer, subject, place)
            if name == "dense" and Key(name, FLOAT, OPENVINO) in sessions:
                precision = _openvino_precision()
                session = runtime(OPENVINO, precision=None).load(onnx)
                sessions[Key(name, f"{precision}, no hint", OPENVINO)] = session
        gc.collect()
        times = timed_series(sessions, calibration[0], series=SERIES * (4 if full else 1), rounds=ROUNDS)
    limits = {"dense": len(images) if full else DENSE_IMAGES, "half widths": len(images)}
    answers = _answers(sessions, images, limits)
    return _result(times, answers, labels, missing, agreement, precision, full)


def _quantised(subject: Subject, folder: Path) -> tuple[fx.GraphModule, Path]:
    batches = [torch.cat(subject.calibration[start : start + 8]) for start in range(0, len(subject.calibration), 8)]
    found = quantize(subject.network, (subject.calibration[0],), batches)
    example = (subject.calibration[0],)
    exported = export_quantized(found.model, example, folder / "ours.onnx", dynamic=False)
    return found.model, exported.path


def _load(
    sessions: dict[Key, Session], missing: dict[Key, str], network: str, peer: Peer, subject: Subject, folder: Path
) -> None:
    """Makes the model and loads it; what cannot be imported, made or loaded is a row with its reason."""
    try:
        made = peer.make(subject, folder)
    except Exception as error:  # a peer may raise anything
        missing[Key(network, peer.name, peer.runtimes[0])] = _reason(error)
        return
    for engine in peer.runtimes:
        key = Key(network, peer.name, engine)
        try:
            sessions[key] = made if isinstance(made, Session) else runtime(engine).load(made)
            sessions[key].run([subject.calibration[0]])
        except Exception as error:
            sessions.pop(key, None)
            missing[key] = _reason(error)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:160]}"


def _agreement(simulated: fx.GraphModule, file: Path, images: Tensor) -> dict[str, Any]:
    """Compares the file on both runtimes with the integer simulation, in units of the grid of the logits."""
    found = {}
    for engine in (ORT, OPENVINO):
        try:
            units, differing, agreement = compare_on_grid(
                simulated, file, [(x,) for x in images.split(1)], engine=engine
            )
        except WithinError as error:  # the runtime is not there
            found[engine] = {"not_measured": error.what}
            continue
        found[engine] = {
            "largest_units": round(units, 3),
            "differing_by_over_half_a_unit": round(differing, 4),
            "argmax_agreement": round(agreement, 4),
            "images": len(images),
        }
    return found


def _answers(sessions: Mapping[Key, Session], images: Tensor, limits: Mapping[str, int]) -> dict[Key, Tensor]:
    """Returns the class that each model sees in the images, in as many of them as its network's limit."""
    found: dict[Key, list[int]] = {key: [] for key in sessions}
    for number, image in enumerate(track(images.split(1), "Top-1")):
        large = enlarge(image, SIZE)
        for key, session in sessions.items():
            if number < limits[key.network]:
                found[key].append(int(session.run([large])[0].argmax()))
    return {key: torch.tensor(classes) for key, classes in found.items()}


def _result(
    times: Mapping[Key, np.ndarray],
    answers: Mapping[Key, Tensor],
    labels: Tensor,
    missing: Mapping[Key, str],
    agreement: Mapping[str, Any],
    precision: str,
    full: bool,
) -> BenchResult:
    found = []
    for key, seconds in times.items():
        references = (times[Key("dense", FLOAT, ORT)], times.get(Key("dense", FLOAT, OPENVINO)))
        classes, reference = answers[key], answers[Key(key.network, FLOAT, ORT)]
        top1, top1_float = (_per_cent(seen == labels[: len(seen)]) for seen in (classes, reference))
        speed, interval = ratio_of(references[0], seconds)
        found.append(
            {
                "network": key.network,
                "path": key.path,
                "runtime": key.engine,
                "milliseconds": round(float(np.median(seconds)) * 1e3, 2),
                "speed": round(speed, 2),
                "interval": [round(end, 2) for end in interval],
                "speed_over_openvino": None if references[1] is None else round(ratio_of(references[1], seconds)[0], 2),
                "images": len(classes),
                "top1_fp32": top1_float,
                "top1": top1,
                "drop": round(top1_float - top1, 2),
                "same_class_as_fp32": _per_cent(classes == reference),
            }
        )
    missed = []
    for engine in (ORT, OPENVINO):
        ours = [row for row in found if (row["network"], row["path"], row["runtime"]) == ("half widths", OURS, engine)]
        if not ours:
            missed.append(f"{engine}: {missing.get(Key('half widths', OURS, engine))}")
        for row in ours:
            if row["speed"] < LEAST_SPEED:
                missed.append(f"{engine}: {row['speed']}x")
            if row["drop"] > MOST_DROP + 1e-9:
                missed.append(f"{engine}: top-1 falls by {row['drop']} points")
    figures = {
        "missed": missed,
        "thresholds": {"speed": LEAST_SPEED, "drop": MOST_DROP},
        "rounds": len(next(iter(times.values()))),
        "rows": found,
        "not_measured": {f"{key.network}, {key.path}, {key.engine}": reason for key, reason in missing.items()},
        "against_the_integer_simulation": agreement,
        "openvino_precision": {"hint_of_all_rows_but_one": "f32", "without_a_hint": precision},
        "load_average": round(os.getloadavg()[0], 1),
        "full": full,
    }
    columns = ("network", "path", "runtime", "CPU ms", "x dense fp32 ORT", "95 %", "x OpenVINO", "images", "top-1 fp32",
               "top-1", "drop", "as fp32 %")  # fmt: skip
    rows: list[Sequence[Any]] = [
        (row["network"], row["path"], row["runtime"], row["milliseconds"], row["speed"],
         f"{row['interval'][0]:.2f} - {row['interval'][1]:.2f}", row["speed_over_openvino"] or "", row["images"],
         row["top1_fp32"], row["top1"], row["drop"], row["same_class_as_fp32"])
        for row in found
    ]  # fmt: skip
    rows += [(key.network, key.path, key.engine, reason) + ("",) * 8 for key, reason in missing.items()]
    return BenchResult("speed", not missed, figures, columns, rows)


def _openvino_precision() -> str:
    """Returns what OpenVINO computes in on this CPU when nothing is said."""
    found = importlib.import_module("openvino").Core().get_property("CPU", "INFERENCE_PRECISION_HINT")
    return str(found.get_type_name())


def _per_cent(right: Tensor) -> float:
    return round(100 * float(right.double().mean()), 2)
