"""ONNX Runtime's own static quantiser, as it comes (signed activations) and as its documentation advises for CPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from tools.benchmarks.peers.peer import Subject
from torch import Tensor


class _Images(CalibrationDataReader):
    """Gives the images one after another."""

    def __init__(self, name: str, images: Sequence[Tensor]) -> None:
        self.feeds: Iterator[dict[str, Any]] = iter([{name: image.numpy()} for image in images])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


def signed(subject: Subject, folder: Path) -> Path:
    """Quantises with the defaults: signed activations and weights, one scale a tensor."""
    return _quantized(subject, folder / "signed.onnx")


def unsigned_per_channel(subject: Subject, folder: Path) -> Path:
    """Quantises with unsigned activations and a scale for each output channel."""
    return _quantized(subject, folder / "unsigned.onnx", activation_type=QuantType.QUInt8, per_channel=True)


def _quantized(subject: Subject, path: Path, **options: Any) -> Path:
    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(str(subject.onnx), str(prepared))
    name = onnx.load(str(prepared), load_external_data=False).graph.input[0].name
    quantize_static(str(prepared), str(path), _Images(name, subject.calibration), **options)
    return path
