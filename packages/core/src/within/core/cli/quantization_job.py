"""The configuration of `within quantize`: which keys it has, and what is wrong with one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from within.core.cli.configuration import check_keys
from within.core.cli.settings import MODEL_KEYS
from within.core.errors import WithinError
from within.core.quantize import QuantizationSettings
from within.core.quantize.bit_budget import BitBudget
from within.core.quantize.exchange import modelopt, pytorch_quantization

LAYOUTS = {"pytorch_quantization": pytorch_quantization, "modelopt": modelopt}


@dataclass(frozen=True)
class QuantizationJob:
    """The keys of a configuration.

    Attributes:
        model: `factory`, and if wanted `arguments` of it and `weights`; or `run`, a directory of `within compress`.
            With `layout`, "pytorch_quantization" or "modelopt", the weights are those of a model calibrated there, and
            its ranges are taken; `ignore` lists the layers and quantisers whose ranges are not.
        inputs: shapes of the example inputs; a run directory knows its own.
        calibration: function by name that returns batches of real inputs.
        quantization: keys of `QuantizationSettings`.
        mixed: keys of `BitBudget`: bits of every layer within a budget, instead of the same everywhere.
        training: keys of `TrainingSettings`, to train on with the quantisers in place.
        evaluate: function by name, from a model to `{metric: value}` or `{metric: (value, unit)}`.
        runtimes: where latency is measured, of the float and the quantised file.
        exporter: "dynamo" or "torchscript".
        seed: of everything random.
        output: the run directory.
    """

    model: Mapping[str, Any]
    inputs: Sequence[Any] = ()
    calibration: str | None = None
    quantization: Mapping[str, Any] = field(default_factory=dict)
    mixed: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    evaluate: str | None = None
    runtimes: Sequence[str] = ("onnxruntime",)
    exporter: str = "dynamo"
    seed: int = 0
    output: str = ""


@dataclass(frozen=True)
class TrainingSettings:
    """Training with the quantisers in place, after the network in floating point.

    Attributes:
        data: function by name that returns what `fit` trains on.
        iterations, batch_size: how long.
        loss: function by name, `loss(output, target)`; without it the only teacher is the network in floating point.
        distillation: `temperature` and `weight`; None learns from the labels alone.
        optimizer, schedule: see `within.core.train.fit`.
        activations_from, freeze_ranges_at: see `within.core.train.quantization_hook.QuantizationHook`.
    """

    data: str
    iterations: int
    batch_size: int = 64
    loss: str | None = None
    distillation: Mapping[str, float] | None = field(default_factory=lambda: {"temperature": 4.0, "weight": 1.0})
    optimizer: Mapping[str, Any] = field(default_factory=lambda: {"type": "Adam", "lr": 1e-4})
    schedule: str | None = "cosine"
    activations_from: int = 0
    freeze_ranges_at: int | None = None


def read_job(config: Mapping[str, Any], *, where: str) -> QuantizationJob:
    """Checks the keys of a configuration.

    Raises:
        WithinError: for an unknown or a missing key.
    """
    check_keys(config, [each.name for each in dataclasses.fields(QuantizationJob)], where)
    model = config.get("model")
    if not isinstance(model, Mapping) or not ("factory" in model or "run" in model):
        raise WithinError(
            "The model has neither a factory nor a run",
            where=where,
            todo='write model = dict(factory="module:name") or model = dict(run="runs/half")',
        )
    check_keys(model, (*MODEL_KEYS, "run", "layout", "ignore"), f"{where}, model")
    layout = model.get("layout")
    if layout is not None and layout not in LAYOUTS:
        todo = f"choose {' or '.join(LAYOUTS)}"
        raise WithinError(f"There is no layout named {layout!r}", where=f"{where}, model", todo=todo)
    if layout is not None and "weights" not in model:
        raise WithinError("A layout needs the weights that have it", where=f"{where}, model", todo="write weights=FILE")
    if config.get("mixed") is not None:
        check_keys(config["mixed"], [each.name for each in dataclasses.fields(BitBudget)], f"{where}, mixed")
        if layout is not None or "bits" in config.get("quantization", {}):
            raise WithinError("The bits are given twice", where=f"{where}, mixed", todo="leave bits or layout out")
    training = config.get("training")
    if training is not None:
        check_keys(training, [each.name for each in dataclasses.fields(TrainingSettings)], f"{where}, training")
        if not {"data", "iterations"} <= set(training):
            todo = 'write training = dict(data="mydata:images", iterations=1000)'
            raise WithinError("Training needs data and iterations", where=f"{where}, training", todo=todo)
        if training.get("loss") is None and training.get("distillation", {}) is None:
            raise WithinError("Training needs a loss or distillation", where=f"{where}, training")
    if "run" not in model and not config.get("inputs"):
        raise WithinError("The key 'inputs' is missing", where=where, todo="see `within quantize --help`")
    known = [each.name for each in dataclasses.fields(QuantizationSettings)]
    check_keys(config.get("quantization", {}), known, f"{where}, quantization")
    return QuantizationJob(**config)
