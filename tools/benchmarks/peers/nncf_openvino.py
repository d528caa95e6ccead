"""NNCF's post-training quantisation, of an OpenVINO model for OpenVINO and of an ONNX model for both runtimes."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
from tools.benchmarks.peers.peer import Subject


def openvino_model(subject: Subject, folder: Path) -> Path:
    """Quantises the network as OpenVINO reads it."""
    import nncf
    import openvino

    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = openvino.convert_model(str(subject.onnx))
    images = nncf.Dataset([image.numpy() for image in subject.calibration])
    path = folder / "nncf.xml"
    openvino.save_model(
        nncf.quantize(model, images, subset_size=len(subject.calibration)), path, compress_to_fp16=False
    )
    return path


def onnx_model(subject: Subject, folder: Path) -> Path:
    """Quantises the ONNX file."""
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = onnx.load(str(subject.onnx))
    name = model.graph.input[0].name
    images = nncf.Dataset([{name: image.numpy()} for image in subject.calibration])
    path = folder / "nncf.onnx"
    onnx.save(nncf.quantize(model, images, subset_size=len(subject.calibration)), str(path))
    return path
