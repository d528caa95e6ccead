"""The kernels that a runtime really executes for a traced graph, at the widths of a decision."""

from within.core.device.kernels.kernel import Kernel
from within.core.device.kernels.lower import Lowering, lower, timed_runtimes

__all__ = ["Kernel", "Lowering", "lower", "timed_runtimes"]
