"""Multiply-accumulates, under a named convention, because published counts disagree.

`exact`        convolutions and matrix products (attention included), nothing else; a transposed convolution counts
               what it computes: each input position times the kernel.
`output_size`  as `exact`, but a transposed convolution counts its output positions times the kernel (GAN Compression,
               Li et al., CVPR 2020).
`thop_2019`    as the counter `thop` did in 2019: convolutions by output positions, one more an output element for a
               bias, two an output element of every batch normalisation; products of activations count nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

from torch import fx

from within.core.cost.cost import Decision, vector_of
from within.core.graph import Graph
from within.core.graph.operator import Shape
from within.core.graph.rules import rule_of

Convention = Literal["exact", "output_size", "thop_2019"]
CONVENTIONS: tuple[Convention, ...] = ("exact", "output_size", "thop_2019")


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one forward pass at the traced input size."""

    convention: Convention = "exact"
    unit: str = "MACs"

    @property
    def name(self) -> str:
        """The cost with its convention."""
        return "MACs" if self.convention == "exact" else f"MACs ({self.convention})"

    def __call__(self, graph: Graph, decision: Decision = None) -> int:
        """Returns the multiply-accumulates of the graph under a decision."""
        return sum(self.by_operator(graph, decision).values())

    def by_operator(self, graph: Graph, decision: Decision = None) -> dict[str, int]:
        """Returns the multiply-accumulates of each operator that has any, by operator name."""
        vector = vector_of(graph, decision)

        def shape(node: fx.Node) -> Shape:
            return graph.shape(node.name, vector)

        def dense(node: fx.Node) -> Shape:
            return graph.shapes[node.name]

        counts = {}
        for op in graph.operators:
            found = rule_of(op)
            if found is not None and found.macs is not None:
                # Where neighbouring channels are mixed, the removed ones are put back as zeros.
                macs = found.macs(op, dense if op.name in graph.coupling.mixing else shape, self.convention)
                if macs:
                    counts[op.name] = macs
        return counts

    def by_kind(self, graph: Graph, decision: Decision = None) -> dict[str, int]:
        """Returns the multiply-accumulates by operator kind."""
        kinds = {op.name: op.kind for op in graph.operators}
        total: dict[str, int] = defaultdict(int)
        for name, macs in self.by_operator(graph, decision).items():
            total[kinds[name]] += macs
        return dict(total)
