"""Importance criteria: a score for each atom of each channel group, one method a file.

A criterion is a function `(graph, **what it needs) -> {group name: scores}`; `IMPORTANCES` lists them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.core.graph import Graph
from within.core.pruning.importance.magnitude import filter_l1, l1, l2
from within.core.pruning.importance.random import random
from within.core.pruning.importance.taylor import taylor

Scores = Mapping[str, NDArray[np.float64]]
IMPORTANCES: dict[str, Callable[..., Scores]] = {
    "l1": l1,
    "l2": l2,
    "filter_l1": filter_l1,
    "random": random,
    "taylor": taylor,
}


def score(graph: Graph, importance: str | Scores | Callable[..., Scores], **needs: Any) -> Scores:
    """Returns the scores of a criterion given by name, as a function of the graph, or as ready scores.

    Raises:
        WithinError: for an unknown name, or scores that do not fit the groups or are not finite.
    """
    if isinstance(importance, str):
        if importance not in IMPORTANCES:
            raise WithinError(f"There is no importance named {importance!r}", todo=f"choose {', '.join(IMPORTANCES)}")
        scores = IMPORTANCES[importance](graph, **needs)
    elif callable(importance):
        scores = importance(graph, **needs)
    else:
        scores = importance
    for group in graph.channel_groups():
        found = scores.get(group.name)
        if found is None or np.shape(found) != (group.size,):
            raise WithinError(f"The importance must give {group.size} scores", where=group.name)
        if not np.isfinite(found).all():
            raise WithinError(
                "The importance is not finite", where=group.name, todo="look for NaN or Inf in weights and data"
            )
    return scores


__all__ = ["IMPORTANCES", "Scores", "filter_l1", "l1", "l2", "random", "score", "taylor"]
