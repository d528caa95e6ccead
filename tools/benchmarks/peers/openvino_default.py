"""OpenVINO as it comes, without a hint on precision: where a CPU computes in bfloat16, so does OpenVINO."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from within.core.device import Session


def load(path: Path) -> tuple[Session, str]:
    """Returns a session on one thread, and the precision that OpenVINO chose."""
    openvino = importlib.import_module("openvino")
    model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1})
    request = model.create_infer_request()

    def run(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        results = request.infer([value.numpy() for value in inputs], share_inputs=True)
        return tuple(torch.from_numpy(results[index].copy()) for index in range(len(model.outputs)))

    chosen = model.get_property("INFERENCE_PRECISION_HINT")
    return Session(run, time.process_time), str(chosen.get_type_name() if hasattr(chosen, "get_type_name") else chosen)
