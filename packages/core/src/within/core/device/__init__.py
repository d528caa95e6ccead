"""Where a model runs: export to ONNX, runtimes, timing, numerical verification, and memory by four instruments."""

from within.core.device.export import OnnxModel, export_onnx
from within.core.device.measure import Timing, measure
from within.core.device.runtimes import RuntimeStatus, Session, runtime, runtime_names, runtime_statuses
from within.core.device.verify import Verification, verify

__all__ = [
    "OnnxModel",
    "RuntimeStatus",
    "Session",
    "Timing",
    "Verification",
    "export_onnx",
    "measure",
    "runtime",
    "runtime_names",
    "runtime_statuses",
    "verify",
]
