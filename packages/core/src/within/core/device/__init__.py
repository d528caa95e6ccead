"""Where a model runs: export to ONNX, runtimes, timing, verification, memory, and a lint of fixed-function engines."""

from within.core.device.dla import DlaReport, channel_step, lint_dla
from within.core.device.export import OnnxModel, export_onnx
from within.core.device.measure import Timing, measure
from within.core.device.runtimes import RuntimeStatus, Session, runtime, runtime_names, runtime_statuses
from within.core.device.tensorrt import read_calibration_cache, trtexec_command, write_calibration_cache
from within.core.device.verify import Verification, verify

__all__ = [
    "DlaReport",
    "OnnxModel",
    "RuntimeStatus",
    "Session",
    "Timing",
    "Verification",
    "channel_step",
    "export_onnx",
    "lint_dla",
    "measure",
    "read_calibration_cache",
    "runtime",
    "runtime_names",
    "runtime_statuses",
    "trtexec_command",
    "verify",
    "write_calibration_cache",
]
