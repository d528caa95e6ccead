"""The table of operator rules: what one operator kind does to channels, costs, storage and constants.

A rule has these facets, so that an operator is described once:
  couple   moves and unites channel labels (see `graph.coupling`),
  macs     counts multiply-accumulates from shapes, under a named convention,
  storage  says whether the output is new memory, a view, the input overwritten, or a view where strides permit,
  transient  bytes an output element that PyTorch allocates for a result nobody reads (the indices of a max pool),
  resize   edits the constants of the operator (sizes, offsets) after channels were cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import fx

from within.core.graph.coupling import Coupling
from within.core.graph.operator import Operator, Shape

if TYPE_CHECKING:
    from within.core.graph.rewrite import Rewrite

Storage = Literal["new", "view", "maybe_view"]
ShapeOf = Callable[[fx.Node], Shape]
Couple = Callable[[Coupling, Operator], None]
CountMacs = Callable[[Operator, ShapeOf, str], int]
Resize = Callable[["Rewrite", Operator], None]


@dataclass(frozen=True)
class Rule:
    """One row of the table."""

    couple: Couple
    macs: CountMacs | None = None
    storage: Storage = "new"
    resize: Resize | None = None
    transient: int = 0


RULES: dict[str, Rule] = {}


def rule(
    *kinds: str,
    macs: CountMacs | None = None,
    storage: Storage = "new",
    resize: Resize | None = None,
    transient: int = 0,
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


def is_number(value: Any) -> bool:
    """Whether an argument is a plain number rather than a tensor."""
    return isinstance(value, (int, float, bool, complex))
