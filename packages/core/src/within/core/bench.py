"""Benchmarks: a table for people and, as the last line, one JSON object for programs.

A bench is a file `tools/benchmarks/<name>.py` with a function `run(full: bool) -> BenchResult`.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from within.core.errors import WithinError


@dataclass(frozen=True)
class BenchResult:
    """What a bench measured.

    Attributes:
        name: the bench.
        passed: whether every threshold that the bench names was met.
        figures: JSON-serialisable figures, thresholds that were missed among them.
        columns, rows: the table that people read.
    """

    name: str
    passed: bool
    figures: Mapping[str, Any]
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = field(default_factory=list)

    def json(self) -> str:
        """Returns the one-line JSON object that ends the output of a bench."""
        return json.dumps({"bench": self.name, "passed": self.passed, "figures": _plain(self.figures)})

    def print(self) -> None:
        """Prints the table and the JSON line on standard output."""
        if self.rows:
            table = Table(*[str(column) for column in self.columns], title=self.name)
            for row in self.rows:
                table.add_row(*[_cell(value) for value in row])
            width = None if sys.stdout.isatty() else 160
            Console(width=width).print(table)
        print(self.json(), flush=True)


def benchmark_folder() -> Path:
    """Returns the folder `tools/benchmarks` of the workspace.

    Raises:
        WithinError: when the package was installed without the workspace around it.
    """
    for parent in Path(__file__).resolve().parents:
        if (parent / "tools" / "benchmarks").is_dir():
            return parent / "tools" / "benchmarks"
    raise WithinError("The benchmarks are part of the source workspace", todo="clone the repository and run it there")


def benchmark_names() -> list[str]:
    """Returns the names of all benches, sorted."""
    return sorted(path.stem for path in benchmark_folder().glob("[a-z]*.py"))


def run_benchmark(name: str, *, full: bool = False) -> BenchResult:
    """Loads `tools/benchmarks/<name>.py` and runs it.

    Raises:
        WithinError: when there is no such bench.
    """
    name = name.replace("-", "_")
    path = benchmark_folder() / f"{name}.py"
    if not path.is_file():
        raise WithinError(f"There is no bench named {name!r}", todo=f"choose one of: {', '.join(benchmark_names())}")
    root = str(path.parents[2])
    if root not in sys.path:
        sys.path.insert(0, root)  # benches and integration tests share `tools.*`
    spec = importlib.util.spec_from_file_location(f"tools.benchmarks.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    result: BenchResult = module.run(full=full)
    return result


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if hasattr(value, "item"):
        return _plain(value.item())
    return value
