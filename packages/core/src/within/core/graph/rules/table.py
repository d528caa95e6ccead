"""The table of operator rules: what one operator kind does to channels, costs, storage and constants.

A rule has these facets, so that an operator is described once:
  couple   moves and unites channel labels (see `graph.coupling`),
  macs     counts multiply-accumulates from shapes, under a named convention,
  storage  says whether the output is new memory, a view of an input, or either, depending on strides and types,
  transient  bytes that PyTorch allocates and frees inside the operator for tensors of its own (the indices of a max
           pool, the statistics of a layer normalisation): a count from shapes, or to be "derived" by a dry run,
  resize   edits the constants of the operator (sizes, offsets) after channels were cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import fx

from within.core.graph.coupling import Coupling
from within.core.graph.operator import Operator, Shape

if TYPE_CHECKING:
    from within.core.graph.rewrite import Rewrite

Storage = Literal["new", "view", "maybe_view", "in_place"]
StorageOf = Callable[[Operator], Storage]
ShapeOf = Callable[[fx.Node], Shape]
Couple = Callable[[Coupling, Operator], None]
CountMacs = Callable[[Operator, ShapeOf, str], int]
Resize = Callable[["Rewrite", Operator], None]
CountBytes = Callable[[Operator, ShapeOf], int]
Transient = CountBytes | Literal["derived"]


@dataclass(frozen=True)
class Rule:
    """One row of the table."""

    couple: Couple
    macs: CountMacs | None = None
    storage: Storage | StorageOf = "new"
    resize: Resize | None = None
    transient: Transient | None = None


RULES: dict[str, Rule] = {}


def rule(
    *kinds: str,
    macs: CountMacs | None = None,
    storage: Storage | StorageOf = "new",
    resize: Resize | None = None,
    transient: Transient | None = None,
) -> Callable[[Couple], Couple]:
    """Registers the decorated coupling function as the rule of operator kinds."""

    def register(couple: Couple) -> Couple:
        for kind in kinds:
            if kind in RULES:
                raise ValueError(f"two rules for {kind}")
            RULES[kind] = Rule(couple, macs, storage, resize, transient)
        return couple

    return register


def rule_of(op: Operator) -> Rule | None:
    """Returns the rule of an operator, or None."""
    return RULES.get(op.kind)


def storage_of(op: Operator) -> Storage:
    """Returns where the output of an operator lies; "maybe_view" where only the trace can tell, or without a rule."""
    found = rule_of(op)
    if op.in_place:
        return "in_place"
    if found is None:
        return "maybe_view"
    return found.storage(op) if callable(found.storage) else found.storage
