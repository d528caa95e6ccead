"""Random scores: the baseline that every criterion has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from within.core.graph import Graph


def random(graph: Graph, seed: int = 0, **_: Any) -> dict[str, NDArray[np.float64]]:
    """Returns uniform scores in [0, 1) from a seed."""
    generator = np.random.default_rng(seed)
    return {group.name: generator.random(group.size) for group in graph.channel_groups()}
