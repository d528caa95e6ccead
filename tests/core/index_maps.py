"""Index maps of a traced function, in a form to compare with positions worked out by hand."""

from __future__ import annotations

import torch
from tests.core.networks import Function, image, seeded

from within.core.graph import Graph, trace


def maps(graph: Graph) -> dict[str, dict[tuple[str, int], list[int]]]:
    """Atoms along every parameter axis that is cut: {group: {(parameter, axis): atom or -1 of each position}}."""
    return {
        group.name: {(member.tensor, member.axis): member.atoms.tolist() for member in group.parameters}
        for group in graph.channel_groups()
    }


def traced(function, *inputs: torch.Tensor, heads: str = "dimension", grouped: str = "within", **modules) -> Graph:
    return trace(seeded(Function(function, **modules)), inputs or image(), heads=heads, grouped=grouped)
