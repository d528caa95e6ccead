"""Structured pruning: importance, widths under budgets, cutting, proof, plans and checkpoints."""

from within.core.checkpoint import load, save, save_model
from within.core.plan import Plan, Step, apply, read_plan
from within.core.pruning.importance import IMPORTANCES
from within.core.pruning.measured_latency import MeasuredPruning, meet_latency
from within.core.pruning.prune import Certificate, PruneResult, prune
from within.core.pruning.slim import slim

__all__ = [
    "IMPORTANCES", "Certificate", "MeasuredPruning", "Plan", "PruneResult", "Step", "apply", "load", "meet_latency",
    "prune", "read_plan", "save", "save_model", "slim",
]  # fmt: skip
