"""Trace a network once; count, prune, export and measure it within a hardware budget.

    from within.core import trace, prune, Budget, PeakMemory, Macs
    result = prune(model, (example,), budgets=[Budget(PeakMemory(), fraction=0.5)])

The names below are the public face; they are imported when first used, so that the command line starts quickly.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from within.core.cost import Budget, Latency, Macs, ModelBytes, Params, PeakMemory
    from within.core.errors import WithinError
    from within.core.graph import Graph, trace
    from within.core.pruning import Plan, apply, load, prune, save

_HOME = {
    "Budget": "within.core.cost",
    "Graph": "within.core.graph",
    "Latency": "within.core.cost",
    "Macs": "within.core.cost",
    "ModelBytes": "within.core.cost",
    "Params": "within.core.cost",
    "PeakMemory": "within.core.cost",
    "Plan": "within.core.pruning",
    "WithinError": "within.core.errors",
    "apply": "within.core.pruning",
    "load": "within.core.pruning",
    "prune": "within.core.pruning",
    "save": "within.core.pruning",
    "trace": "within.core.graph",
}

__all__ = [
    "Budget",
    "Graph",
    "Latency",
    "Macs",
    "ModelBytes",
    "Params",
    "PeakMemory",
    "Plan",
    "WithinError",
    "apply",
    "load",
    "prune",
    "save",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
