"""Which input pixels a position of a value depends on, and along which of its axes the image runs.

Position i of a value depends on the input pixels i * jump - before .. i * jump + after along each image axis. A window
of k positions with stride s, dilation d and padding p gives

    jump' = jump * s,   before' = before + jump * p,   after' = after + jump * (d (k - 1) - p)

and joins take the larger of each side (Araujo, Norris, Sim: Computing Receptive Fields of Convolutional Neural
Networks, Distill 2019). Jumps are fractions, because decoders and upscaling networks go below one pixel.
The rules beside this file say what each operator does to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias

from torch import fx

from within.core.graph import Graph
from within.core.graph.operator import Operator, Shape, shape_of


@dataclass(frozen=True)
class Reach:
    """The input pixels that a position depends on along one axis: i * jump - before .. i * jump + after."""

    jump: Fraction = Fraction(1)
    before: Fraction = Fraction(0)
    after: Fraction = Fraction(0)

    def window(self, first: int, last: int, stride: int | Fraction = 1) -> Reach:
        """Returns the reach of a position i that reads the positions i * stride + first .. i * stride + last."""
        return self.spread(Fraction(first), Fraction(last), Fraction(stride))

    def spread(self, first: Fraction, last: Fraction, stride: Fraction) -> Reach:
        """As `window`, for bounds that are no whole numbers."""
        return Reach(self.jump * stride, self.before - self.jump * first, self.after + self.jump * last)

    def enlarged(self, factor: int) -> Reach:
        """Returns the reach of a position i that reads position floor(i / factor)."""
        return self.spread(Fraction(1 - factor, factor), Fraction(0), Fraction(1, factor))

    def join(self, other: Reach) -> Reach:
        """Returns the reach of a position that needs both, at equal jumps."""
        return Reach(self.jump, max(self.before, other.before), max(self.after, other.after))


@dataclass(frozen=True)
class Along:
    """An axis of a value that runs along the image.

    Attributes:
        axis: which axis of the image, or "pixels" for both in one, row by row.
        reaches: the reach of its positions; for pixels along the height and along the width.
        sizes: for pixels: height and width.
    """

    axis: Literal["height", "width", "pixels"]
    reaches: tuple[Reach, ...]
    sizes: tuple[int, ...] = ()


UNIFORM = "uniform"
Tag: TypeAlias = Along | Literal["uniform"] | None
"""What an axis of a value is: along the image, of equal entries throughout, or something else (channels, batch)."""
Layout: TypeAlias = tuple[Tag, ...]


@dataclass(frozen=True)
class NonLocal:
    """An operator that a tile does not see all inputs of.

    Attributes:
        kind: the operator.
        place: the module that runs it.
        why: what it needs.
    """

    kind: str
    place: str
    why: str


class Walk:
    """Follows the image axes through the operators of a graph, in order.

    Attributes:
        layouts: the axes of each value, `name:i` for the outputs of operators that have several.
        faults: operators that are not local, or that have no rule.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.layouts: dict[str, Layout] = {}
        self.faults: dict[NonLocal, None] = {}
        image = graph.input_names[0]
        self.layouts[image] = (None, None, Along("height", (Reach(),)), Along("width", (Reach(),)))

    def of(self, value: fx.Node | str) -> Layout:
        """Returns the axes of a value; those of a constant are not along the image."""
        name = value if isinstance(value, str) else value.name
        return self.layouts[name] if name in self.layouts else (None,) * len(self.graph.shapes[name])

    def put(self, op: Operator, layout: Sequence[Tag], output: int | None = None) -> None:
        """Notes the axes of the operator's result, or of one of its results."""
        self.layouts[op.name if output is None else f"{op.name}:{output}"] = tuple(layout)

    def put_all(self, op: Operator, layout: Sequence[Tag]) -> None:
        """Notes the same axes for every result."""
        if isinstance(op.node.meta.get("val"), (tuple, list)):
            for output in range(len(op.shapes)):
                self.put(op, layout, output)
        else:
            self.put(op, layout)

    def fault(self, op: Operator, why: str) -> None:
        """Notes an operator that is not local."""
        self.faults[NonLocal(op.kind, op.module, why)] = None

    def broadcast(self, op: Operator, nodes: Sequence[fx.Node], shape: Shape) -> Layout:
        """Returns the axes of an elementwise result of the given shape."""
        rank = len(shape)
        merged: list[Tag] = [UNIFORM] * rank
        fixed = [False] * rank
        for node in nodes:
            own, tags = shape_of(node), self.of(node)
            for axis in range(len(own)):
                at = rank - len(own) + axis
                tag = tags[axis]
                if (own[axis] == 1 and shape[at] > 1) or tag == UNIFORM:
                    continue
                if tag is None:
                    fixed[at] = True
                else:
                    merged[at] = self._merge(op, merged[at], tag)
        for axis in range(rank):
            if fixed[axis] and isinstance(merged[axis], Along) and shape[axis] > 1:
                self.fault(op, "a constant of the size of the image depends on where a pixel is")
            elif fixed[axis]:
                merged[axis] = None
        return tuple(merged)

    def _merge(self, op: Operator, first: Tag, second: Along) -> Along:
        if not isinstance(first, Along):
            return second
        jumps = [tuple(reach.jump for reach in tag.reaches) for tag in (first, second)]
        if first.axis != second.axis or jumps[0] != jumps[1]:
            self.fault(op, "it joins values that lie differently over the image")
            return first
        reaches = tuple(one.join(other) for one, other in zip(first.reaches, second.reaches, strict=True))
        return Along(first.axis, reaches, first.sizes)
