"""One figure of memory, with the name of the instrument and of the definition that it follows.

The four definitions give different numbers for the same network, so a figure never goes without its own:
live_eager  bytes of the tensors alive while the model's own Python code runs, its references included;
live_graph  the same, when each tensor is freed right after its last use in the traced order;
alloc       the allocator's high water: live bytes and what the operators allocate inside (workspace);
rss         the resident memory of the process at its highest, less what was resident before the run.
Weights and the caller's input are never in the figure; the network's output always is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Definition = Literal["live_eager", "live_graph", "alloc", "rss"]

COLUMNS = ("instrument", "definition", "MiB", "bytes", "note")


@dataclass(frozen=True)
class MemoryReading:
    """A measured amount of memory.

    Attributes:
        instrument: what measured it, with the variant that ran, such as `process: graph, channels_last`.
        definition: what the number means (see the module).
        bytes: the peak, in bytes.
        note: what a reader has to know about this one figure; may be empty.
    """

    instrument: str
    definition: Definition
    bytes: int
    note: str = ""

    @property
    def mebibytes(self) -> float:
        """The peak in MiB (2^20 bytes)."""
        return self.bytes / 2**20


def rows(readings: Iterable[MemoryReading]) -> list[tuple[str, str, float, int, str]]:
    """Returns one table row a reading, in the order of `COLUMNS`."""
    return [(r.instrument, r.definition, round(r.mebibytes, 2), r.bytes, r.note) for r in readings]
