"""From a graph and a decision to the kernels of a named runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from within.core.device.kernels.blocks import block_size
from within.core.device.kernels.eager import eager_kernels
from within.core.device.kernels.kernel import Kernel
from within.core.device.kernels.onnxruntime import onnxruntime_kernels
from within.core.device.kernels.steps import Steps, read_steps
from within.core.errors import WithinError
from within.core.graph import Graph
from within.core.graph.operator import Shape

_RUNTIMES = ("onnxruntime", "torch", "torch_channels_last")


@dataclass(frozen=True, eq=False)
class Lowering:
    """A graph made ready for one runtime; see `lower`."""

    graph: Graph
    runtime: str
    steps: Steps

    def kernels(self, decision: Mapping[str, int] | NDArray[np.int64] | None = None) -> tuple[Kernel, ...]:
        """Returns the kernels that run under a decision, in order, equal ones as often as they run."""
        shape = self._shapes(decision)
        if self.runtime == "onnxruntime":
            return onnxruntime_kernels(self.steps, shape, block_size())
        return eager_kernels(self.steps, shape, channels_last=self.runtime == "torch_channels_last")

    def _shapes(self, decision: Mapping[str, int] | NDArray[np.int64] | None) -> Callable[[str], Shape]:
        vector = decision if decision is None or isinstance(decision, np.ndarray) else self.graph.width_vector(decision)
        found: dict[str, Shape] = {}

        def shape(value: str) -> Shape:
            if value not in found:
                found[value] = self.graph.shape(value, vector)
            return found[value]

        return shape


def lower(graph: Graph, runtime: str) -> Lowering:
    """Prepares a graph for a runtime.

    Raises:
        WithinError: for a runtime whose kernels cannot be timed one by one, and for a model that is not fp32.
    """
    if runtime not in _RUNTIMES:
        raise WithinError(
            f"The kernels of the runtime {runtime!r} cannot be timed one by one",
            todo=f"choose one of: {', '.join(_RUNTIMES)}",
        )
    for name, parameter in graph.model.named_parameters():
        if str(parameter.dtype) != "torch.float32":
            raise WithinError(f"Kernels are timed in float32, this model has {parameter.dtype}", where=name)
    return Lowering(graph, runtime, read_steps(graph))


def timed_runtimes() -> tuple[str, ...]:
    """Returns the runtimes whose kernels can be timed one by one."""
    return _RUNTIMES
