"""Operator rules, a file a family; importing this package fills the table."""

from within.core.graph.rules import (
    attention,
    convolution,
    creation,
    elementwise,
    indexing,
    joining,
    normalisation,
    recurrent,
    reduction,
    resampling,
    shape,
)
from within.core.graph.rules.table import RULES, Rule, rule, rule_of, storage_of

__all__ = [
    "RULES",
    "Rule",
    "attention",
    "convolution",
    "creation",
    "elementwise",
    "indexing",
    "joining",
    "normalisation",
    "recurrent",
    "reduction",
    "resampling",
    "rule",
    "rule_of",
    "shape",
    "storage_of",
]
