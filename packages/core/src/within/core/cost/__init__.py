"""Costs F(a) with units, and budgets on them."""

from within.core.cost.budget import Achieved, Budget
from within.core.cost.cost import Cost, Decision
from within.core.cost.latency import KernelCost, Latency
from within.core.cost.latency_validation import LatencyValidation
from within.core.cost.macs import Macs
from within.core.cost.parameters import ModelBytes, Params
from within.core.cost.peak_memory import MemoryTimeline, PeakMemory

__all__ = [
    "Achieved",
    "Budget",
    "Cost",
    "Decision",
    "KernelCost",
    "Latency",
    "LatencyValidation",
    "Macs",
    "MemoryTimeline",
    "ModelBytes",
    "Params",
    "PeakMemory",
]
