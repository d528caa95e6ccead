"""Workspace of single operators, measured once on a backend: bytes that an operator needs beyond input and output.

`lookup` answers from the measurement itself where the key is in the table; else by a line in output bytes through the
measured sizes of the same operator; else by the rule that fitted its family best (`rules`). Peak memory of a run is
then max over operators of (live bytes + workspace): on CPU with freed tensors given back at once, resident memory
follows it. The two definitions differ by scratch that is allocated but never touched: `alloc` counts it, `rss` not.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch

from within.core.device.workspace.operator_key import OperatorKey
from within.core.device.workspace.rules import RULES
from within.core.errors import WithinError
from within.core.files import read_json, write_json

Definition = Literal["alloc", "rss"]
Source = Literal["measured", "interpolated", "rule", "none"]

PACKAGED = Path(__file__).parents[1] / "workspace_torch_cpu.json"


@dataclass(frozen=True)
class Workspace:
    """Workspace of one operator.

    Attributes:
        bytes: beyond its live input and output.
        source: where the figure is from; `none` means that the table knows nothing and 0 is a guess.
    """

    bytes: int
    source: Source


@dataclass(frozen=True)
class Measured:
    """What an operator took beyond input and output, in bytes, by the profiler (alloc) and in the process (rss)."""

    alloc: int
    rss: int


@dataclass(frozen=True)
class FittedRule:
    """The rule that a family follows.

    Attributes:
        name: of the rule, in `rules.RULES`.
        worst: largest error over the measured operators of the family, as a share of input + output + workspace.
        count: how many operators it was chosen on.
    """

    name: str
    worst: float
    count: int


@dataclass(frozen=True)
class WorkspaceTable:
    """Measured workspaces of one backend.

    Attributes:
        backend: such as `torch_cpu`.
        host: versions and processor capability that the figures hold for.
        entries: the measurements.
        rules: for each definition, the rule of each family.
    """

    backend: str
    host: Mapping[str, str]
    entries: Mapping[OperatorKey, Measured]
    rules: Mapping[Definition, Mapping[str, FittedRule]] = field(default_factory=dict)

    def lookup(self, key: OperatorKey | None, definition: Definition = "rss") -> Workspace:
        """Returns the workspace of an operator.

        Arguments:
            key: from `operator_key`; None stands for an operator without workspace.
            definition: `rss` for memory that is touched, `alloc` for what the allocator hands out.
        """
        if key is None:
            return Workspace(0, "measured")
        if key in self.entries:
            return Workspace(getattr(self.entries[key], definition), "measured")
        points = sorted((other.output_bytes, getattr(value, definition)) for other, value in self._same_but_size(key))
        if len({size for size, _ in points}) >= 2:
            return Workspace(max(0, round(_line(points, key.output_bytes))), "interpolated")
        rule = self.rules.get(definition, {}).get(key.family)
        if rule is not None:
            return Workspace(max(0, round(RULES[rule.name](key))), "rule")
        return Workspace(0, "none")

    def _same_but_size(self, key: OperatorKey) -> list[tuple[OperatorKey, Measured]]:
        return [(other, value) for other, value in self.entries.items() if key.same_but_size(other)]

    def with_entries(self, entries: Mapping[OperatorKey, Measured]) -> WorkspaceTable:
        """Returns the table with more measurements, its rules chosen anew."""
        together = {**self.entries, **entries}
        return WorkspaceTable(self.backend, self.host, together, fit_rules(together))

    def holds_here(self) -> bool:
        """Whether the figures were measured with this version of PyTorch on a processor of this capability."""
        return dict(self.host) == host_description()

    def save(self, path: str | Path) -> None:
        """Writes the table as JSON."""
        value = {
            "backend": self.backend,
            "host": dict(self.host),
            "rules": {
                definition: {family: asdict(rule) for family, rule in rules.items()}
                for definition, rules in self.rules.items()
            },
            "entries": [{**asdict(key), **asdict(value)} for key, value in sorted(self.entries.items())],
        }
        write_json(path, value)


def load_workspace_table(path: str | Path = PACKAGED) -> WorkspaceTable:
    """Reads a table; without a path, the one for PyTorch on a CPU (oneDNN, fp32) that comes with the package.

    Raises:
        WithinError: when the file is missing or is not such a table.
    """
    value = read_json(path)
    try:
        entries = {OperatorKey.from_plain(entry): Measured(entry["alloc"], entry["rss"]) for entry in value["entries"]}
        rules: dict[Definition, dict[str, FittedRule]] = {
            definition: {family: FittedRule(**rule) for family, rule in rules.items()}
            for definition, rules in value["rules"].items()
        }
        return WorkspaceTable(value["backend"], value["host"], entries, rules)
    except (KeyError, TypeError, AttributeError) as error:
        raise WithinError(f"The file is not a workspace table: {error!r}", where=str(path)) from error


@functools.cache
def packaged_workspace_table() -> WorkspaceTable:
    """Returns the table that comes with the package, read once."""
    return load_workspace_table()


def fit_rules(entries: Mapping[OperatorKey, Measured]) -> dict[Definition, dict[str, FittedRule]]:
    """Chooses for each family and definition the rule whose worst error over the measured operators is least.

    The error is relative to input + output + workspace, the memory that is alive while the operator runs.
    """
    families: dict[str, list[tuple[OperatorKey, Measured]]] = {}
    for key, value in entries.items():
        families.setdefault(key.family, []).append((key, value))
    definitions: tuple[Definition, ...] = ("alloc", "rss")
    return {
        definition: {family: _best_rule(members, definition) for family, members in sorted(families.items())}
        for definition in definitions
    }


def host_description() -> dict[str, str]:
    """Returns what a table depends on: PyTorch's version, the processor's architecture and vector capability."""
    return {
        "torch": torch.__version__.split("+")[0],
        "machine": platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def _best_rule(members: Iterable[tuple[OperatorKey, Measured]], definition: Definition) -> FittedRule:
    members = list(members)

    def worst(name: str) -> float:
        return max(
            abs(RULES[name](key) - getattr(value, definition))
            / (key.input_bytes + key.output_bytes + getattr(value, definition))
            for key, value in members
        )

    errors = {name: worst(name) for name in RULES}
    best = min(errors, key=lambda name: round(errors[name], 3))  # of equals, the simplest comes first
    return FittedRule(best, round(errors[best], 4), len(members))


def _line(points: list[tuple[int, int]], size: int) -> float:
    """Interpolates between the two measured sizes around `size`, or extends the line through the outermost two."""
    sizes = [point[0] for point in points]
    after = next((index for index, other in enumerate(sizes) if other >= size), len(sizes) - 1)
    after = max(after, 1)
    (low, low_value), (high, high_value) = points[after - 1], points[after]
    if high == low:
        return high_value
    return low_value + (high_value - low_value) * (size - low) / (high - low)
