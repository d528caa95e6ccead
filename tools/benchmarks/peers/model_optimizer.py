"""NVIDIA Model Optimizer: symmetric int8 for TensorRT, exported with quantise-dequantise pairs by PyTorch's tracer."""

from __future__ import annotations

import copy
import importlib
import warnings
from pathlib import Path

import torch
from tools.benchmarks.peers.peer import Subject
from torch import nn

from within.core.device.torchscript_export import torchscript_export


def exported(subject: Subject, folder: Path) -> Path:
    """Quantises with the configuration INT8_DEFAULT_CFG."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization = importlib.import_module("modelopt.torch.quantization")

        def calibrate(network: nn.Module) -> None:
            with torch.no_grad():
                for image in subject.calibration:
                    network(image)

        configuration = copy.deepcopy(quantization.INT8_DEFAULT_CFG)
        network = quantization.quantize(copy.deepcopy(subject.network), configuration, calibrate).eval()
        # opset 17: the only one below the exporter's last that has quantisation by channel and every operator here
        return torchscript_export(network, (subject.calibration[0],), folder / "modelopt.onnx", opset=17, dynamic=False)
