"""`Cost`: a function from a graph and a decision (widths) to a number with a unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from within.core.graph import Graph

Decision: TypeAlias = Mapping[str, int] | NDArray[np.int64] | None
"""Atoms kept in each group: by group name (others keep all), as a vector over all groups, or None: the dense model."""


@runtime_checkable
class Cost(Protocol):
    """A cost; see `Macs`, `Params`, `ModelBytes`, `PeakMemory`, `Latency`.

    Attributes:
        name: what it is, with the convention or definition that makes the number reproducible.
        unit: its unit.
    """

    @property
    def name(self) -> str: ...

    @property
    def unit(self) -> str: ...

    def __call__(self, graph: Graph, decision: Decision = None) -> float:
        """Returns the cost of the graph, dense or under a decision."""
        ...


def vector_of(graph: Graph, decision: Decision) -> NDArray[np.int64] | None:
    """Returns a decision as a width vector, None for the dense model."""
    if decision is None or isinstance(decision, np.ndarray):
        return decision
    return graph.width_vector(decision)
