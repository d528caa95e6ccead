"""The table of rules, one for each operator kind, and what several of them need.

A rule notes the axes of the result, and names the operator as a fault when a tile could not compute it: because it
needs the whole image, or because it depends on where in the image a pixel is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import fx

from within.core.graph.operator import Operator, shape_of
from within.lowlevel.receptive_field.reach import Along, Reach, Tag, Walk

Rule = Callable[[Walk, Operator], None]
_RULES: dict[str, Rule] = {}


def rule_for(kind: str) -> Rule:
    """Returns the rule of an operator kind; `unknown` where there is none."""
    return _RULES.get(kind, unknown)


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    """Registers the decorated function as the rule of operator kinds."""

    def register(function: Rule) -> Rule:
        _RULES.update(dict.fromkeys(kinds, function))
        return function

    return register


def unknown(walk: Walk, op: Operator) -> None:
    """An operator without a rule: a fault, unless it only sees constants."""
    source = next((node for node in op.tensors if any(isinstance(tag, Along) for tag in walk.of(node))), None)
    if source is None:
        return
    walk.fault(op, "nothing is known of what it does to positions")
    if shape_of(source) == op.shape:
        walk.put_all(op, walk.of(source))


def whole_image(walk: Walk, op: Operator, node: fx.Node, axes: Sequence[int], why: str) -> None:
    """Names the operator when one of the axes runs along the image."""
    if any(isinstance(walk.of(node)[axis], Along) for axis in axes):
        walk.fault(op, why)


def moved(walk: Walk, op: Operator, tag: Tag, move: Callable[[Reach], Reach]) -> Tag:
    """Returns the tag of an axis whose positions read others; a flattened image cannot be read so."""
    if not isinstance(tag, Along):
        return tag
    if tag.axis == "pixels":
        walk.fault(op, "it treats the image as a line of pixels")
        return tag
    return Along(tag.axis, (move(tag.reaches[0]),))
