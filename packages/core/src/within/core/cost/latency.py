"""Latency of the deployed model, predicted from times of its kernels measured on a named runtime.

    T(a) = scale * sum over kernels u of the model under a of t(u) + constant,  at least half of the first term

A kernel is what the runtime executes as a whole, with batch normalisation, additions and activations fused and channels
padded as it pads them (`within.core.device.kernels`). Times that are missing are measured when they are first asked for
and kept in a table; one that lies between two measured widths of the same time is not measured. `scale` and `constant`
are 1 and 0 until `calibrated` fits them to whole models: what kernels cost one another in caches, and dispatch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from within.core.cost.cost import Decision, vector_of
from within.core.cost.latency_table import LatencyTable, environment
from within.core.device.kernels import Kernel, Lowering, lower
from within.core.device.kernels.timing import reference_kernel, time_kernels, time_reference
from within.core.device.measure import Timing, measure
from within.core.device.runtimes import runtime as runtime_named
from within.core.errors import WithinError
from within.core.graph import Graph
from within.core.progress import track

if TYPE_CHECKING:
    from within.core.cost.latency_validation import LatencyValidation

BATCH = 24  # kernels that are timed against each other
_BATCH_BYTES = 512 << 20


@dataclass(frozen=True)
class KernelCost:
    """One kernel of a model under a decision.

    Attributes:
        kernel: the kernel.
        count: how often it runs.
        milliseconds: one run of it, from the table.
        measured: whether at this very size; otherwise inside a measured plateau.
    """

    kernel: Kernel
    count: int
    milliseconds: float
    measured: bool


class Latency:
    """Latency of one forward pass at the traced input size, in milliseconds.

    With one thread it is CPU time, which other programs on the machine hardly disturb; with more it is elapsed time.

    Arguments:
        runtime: one of `within.core.device.kernels.timed_runtimes()`.
        threads: of one operator.
        table: the file of measured times; by default one in the user's cache folder, shared by all models.
        measure_missing: measure kernels that are not in the table; otherwise they are an error.
        scale, constant: calibration, see `calibrated`.
        error: of the calibration, see there.

    Raises:
        WithinError: when the runtime is not installed or cannot be timed kernel by kernel, or the table is unusable.
    """

    unit = "ms"

    def __init__(
        self,
        runtime: str = "onnxruntime",
        *,
        threads: int = 1,
        table: str | Path | LatencyTable | None = None,
        measure_missing: bool = True,
        scale: float = 1.0,
        constant: float = 0.0,
        error: float | None = None,
    ) -> None:
        if threads < 1:
            raise WithinError(f"{threads} threads cannot compute", where="Latency", todo="threads=1 or more")
        if not (scale > 0 and np.isfinite(scale) and np.isfinite(constant)):
            raise WithinError(f"A calibration of {scale} and {constant} is impossible", where="Latency")
        self.runtime, self.threads, self.measure_missing = runtime, threads, measure_missing
        self.scale, self.constant, self.error = scale, constant, error
        self.table = table if isinstance(table, LatencyTable) else LatencyTable(environment(runtime, threads), table)
        self._lowerings: WeakKeyDictionary[Graph, Lowering] = WeakKeyDictionary()
        self._times: dict[Kernel, float] = {}

    @property
    def name(self) -> str:
        """The cost, with the runtime and its threads."""
        return f"latency ({self.runtime}, {self.threads} thread{'s' if self.threads > 1 else ''})"

    def __repr__(self) -> str:
        calibration = f", scale={self.scale:.4g}, constant={self.constant:.4g}" if self.is_calibrated else ""
        error = "" if self.error is None else f", error={self.error:.2g}"
        return f"Latency({self.runtime!r}, threads={self.threads}{calibration}{error})"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lowerings": None, "_times": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lowerings = WeakKeyDictionary()

    @property
    def is_calibrated(self) -> bool:
        """Whether it was calibrated."""
        return (self.scale, self.constant) != (1.0, 0.0)

    def __call__(self, graph: Graph, decision: Decision = None) -> float:
        """Returns the predicted milliseconds under a decision, measuring kernels that are missing.

        Raises:
            WithinError: when a kernel cannot be measured, or is missing and must not be.
        """
        kernels = self.kernels(graph, decision)
        if any(kernel not in self._times for kernel in kernels):
            self.fill_kernels(kernels)
        total = self.scale * sum(self._times[kernel] for kernel in kernels)
        return max(total + self.constant, total / 2)

    def kernels(self, graph: Graph, decision: Decision = None) -> tuple[Kernel, ...]:
        """Returns the kernels that run under a decision, in order."""
        lowering = self._lowerings.get(graph)
        if lowering is None:
            lowering = self._lowerings[graph] = lower(graph, self.runtime)
        return lowering.kernels(vector_of(graph, decision))

    def breakdown(self, graph: Graph, decision: Decision = None) -> list[KernelCost]:
        """Returns what the prediction is made of, dearest first (without calibration)."""
        kernels = self.kernels(graph, decision)
        self.fill_kernels(kernels)
        counts = {kernel: kernels.count(kernel) for kernel in dict.fromkeys(kernels)}
        rows = [
            KernelCost(kernel, count, self._times[kernel], self.table.get(kernel) is not None)
            for kernel, count in counts.items()
        ]
        return sorted(rows, key=lambda row: -row.count * row.milliseconds)

    # ---- filling the table

    def fill(self, graph: Graph, decisions: Iterable[Decision] = (None,)) -> int:
        """Measures what several decisions need that is not in the table, all in one go; returns how many kernels.

        Faster and steadier than asking for one decision at a time, as more kernels are timed against each other.
        """
        return self.fill_kernels([kernel for decision in decisions for kernel in self.kernels(graph, decision)])

    def fill_kernels(self, kernels: Sequence[Kernel]) -> int:
        """As `fill`, for given kernels."""
        missing = [kernel for kernel in dict.fromkeys(kernels) if not self._look_up(kernel)]
        if missing:
            self.table.refresh()
            missing = [kernel for kernel in missing if not self._look_up(kernel)]
        if not missing:
            return 0
        if not self.measure_missing:
            raise WithinError(
                f"{len(missing)} kernels are not in the latency table, such as {missing[0].key[:200]}",
                where=str(self.table.path),
                todo="pass measure_missing=True to measure them here",
            )
        nominal = self.nominal()
        batches = _batches(missing)
        for batch in (
            track(batches, f"Timing {len(missing)} kernels on {self.runtime}") if len(batches) > 1 else batches
        ):
            self.table.put(time_kernels(batch, self.runtime, self.threads, nominal=nominal))
        for kernel in missing:
            self._look_up(kernel)
        return len(missing)

    def nominal(self) -> float:
        """Returns the milliseconds of the reference kernel that all times in the table are stated for."""
        reference = reference_kernel(self.runtime)
        found = self.table.get(reference)
        if found is None:
            self.table.refresh()
            found = self.table.get(reference)
        if found is None:
            found = time_reference(self.runtime, self.threads)
            self.table.put({reference: found})
        return found.milliseconds

    def _look_up(self, kernel: Kernel) -> bool:
        if kernel not in self._times:
            found = self.table.get(kernel)
            time = self.table.interpolated(kernel) if found is None else found.milliseconds
            if time is None:
                return False
            self._times[kernel] = time
        return True

    # ---- whole models

    def measure(self, model: nn.Module | str | Path, inputs: Sequence[torch.Tensor], *, repeats: int = 30) -> Timing:
        """Times a whole model on the runtime; see `within.core.device.measure`.

        Its `median` is seconds of CPU time now, in the present state of the machine; `validate` relates measurements
        to the reference kernel, as the times in the table are.
        """
        engine = runtime_named(self.runtime, threads=self.threads)
        return measure(model, inputs, runtime=engine, threads=self.threads, repeats=repeats)["model"]

    def validate(self, graph: Graph, decisions: Sequence[Decision], *, repeats: int = 30) -> LatencyValidation:
        """Measures whole models at these decisions and compares; see `within.core.cost.latency_validation`."""
        from within.core.cost.latency_validation import validate

        return validate(self, graph, decisions, repeats=repeats)

    def calibrated(self, graph: Graph, decisions: Sequence[Decision] | None = None, *, repeats: int = 30) -> Latency:
        """Returns this cost fitted to whole models of a graph: the dense one and, by default, six uniform cuts.

        Its `error` is the 90th percentile of the absolute relative errors that remain on them.
        """
        from within.core.cost.latency_validation import calibrate

        return calibrate(self, graph, decisions, repeats=repeats)

    def calibrated_and_validated(
        self, graph: Graph, decisions: Sequence[Decision], *, repeats: int = 30
    ) -> tuple[Latency, LatencyValidation]:
        """Calibrates as `calibrated`, validates on other decisions, and measures all of them together."""
        from within.core.cost.latency_validation import calibrate_and_validate

        return calibrate_and_validate(self, graph, decisions, repeats=repeats)

    def with_calibration(self, scale: float, constant: float, error: float | None = None) -> Latency:
        """Returns the same cost with another calibration, on the same table."""
        return Latency(
            self.runtime,
            threads=self.threads,
            table=self.table,
            measure_missing=self.measure_missing,
            scale=scale,
            constant=constant,
            error=error,
        )


def _batches(kernels: Sequence[Kernel]) -> list[list[Kernel]]:
    batches: list[list[Kernel]] = [[]]
    for kernel in kernels:
        full = sum(other.bytes for other in batches[-1]) + kernel.bytes > _BATCH_BYTES
        if batches[-1] and (full or len(batches[-1]) == BATCH):
            batches.append([])
        batches[-1].append(kernel)
    return batches
