"""Compare two versions of a graph by their highest rows of live bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx

from within.core.transform.editable import annotate
from within.core.transform.lifetimes import Lifetimes, NodeWorkspace, lifetimes

NEAR = 0.9  # rows above this share of the peak take part in comparisons
RISE = 0.02  # how far the live peak may rise where the resident peak falls: a converted copy of the image, for one


class Ruler:
    """Measures versions of one model at the sizes of `inputs`.

    Arguments:
        workspace: counted in the resident rows, which decide; None compares live rows alone.
    """

    def __init__(self, inputs: Sequence[Any], workspace: NodeWorkspace | None) -> None:
        self.inputs, self.workspace = inputs, workspace
        self._quantum = 0

    def measure(self, module: fx.GraphModule) -> Score:
        """Annotates a module and returns its score."""
        annotate(module, self.inputs)
        found = lifetimes(module, self.workspace)
        live = found if self.workspace is None else lifetimes(module)
        if not self._quantum:
            self._quantum = max(1, found.peak // 500)  # views of weights and other small change decide nothing
        return Score(found, live.peak, self._quantum)


class Score:
    """The rows of one version.

    Attributes:
        found: its lifetimes, workspace included.
        live_peak: the highest row without workspace, in bytes.
    """

    def __init__(self, found: Lifetimes, live_peak: int, quantum: int) -> None:
        self.found, self.live_peak = found, live_peak
        self._quantum = quantum
        self._sorted = np.sort(found.allocating)[::-1] // quantum

    @property
    def resident_peak(self) -> int:
        """The highest row with workspace, in bytes."""
        return self.found.peak

    def touches(self, names: Sequence[str]) -> bool:
        """Whether a storage that one of these nodes makes or reads is alive at one of the highest rows."""
        found, wanted = self.found, set(names)
        values = {item for node in found.nodes if node.name in wanted for item in (node, *node.all_input_nodes)}
        identities = {identity for item in values for identity in found.storages[item]}
        top = np.flatnonzero(found.rows >= found.peak - self._quantum)
        return any(found.alive(identity, int(row)) for identity in identities for row in top)

    def better_than(self, other: Score) -> bool:
        """Whether the rows near the peak are lower, compared from the highest down; equal peaks go one by one."""
        if self.live_peak > other.live_peak * (1 + RISE):
            return False
        return self._top(other) < other._top(other)

    def lower_than(self, other: Score) -> bool:
        """Whether the peak itself falls: with workspace, or without where that one is equal."""
        if self.live_peak > other.live_peak * (1 + RISE):
            return False
        fall = other.resident_peak - self.resident_peak
        return fall > self._quantum or (fall == 0 and other.live_peak - self.live_peak > self._quantum)

    def no_worse_than(self, other: Score) -> bool:
        """Whether neither the rows near the peak nor the live peak rise."""
        return self._top(other) <= other._top(other) and self.live_peak <= other.live_peak

    def _top(self, other: Score) -> list[int]:
        """Returns the rows that reach the part of another version's peak that matters, highest first."""
        rows = self._sorted[self._sorted * self._quantum >= NEAR * other.resident_peak]
        return [int(row) for row in rows]
