"""Structured pruning: importance, widths under budgets, cutting, proof, plans and checkpoints."""

from within.core.prune.checkpoint import load, save, save_model
from within.core.prune.importance import IMPORTANCES
from within.core.prune.plan import Plan, Step, apply, read_plan
from within.core.prune.prune import Certificate, PruneResult, prune
from within.core.prune.slim import slim

__all__ = [
    "IMPORTANCES", "Certificate", "Plan", "PruneResult", "Step", "apply", "load", "prune", "read_plan", "save",
    "save_model", "slim",
]  # fmt: skip
