"""What a search has evaluated so far, in order, and how it asks for more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from within.nas.evaluations import Evaluations
from within.nas.spaces import Architecture

Objectives = Mapping[str, float]
Evaluate = Callable[[Sequence[Architecture]], Sequence[Objectives]]


@dataclass
class History:
    """See the module.

    Attributes:
        evaluate: gives objectives of several architectures.
        queries: how many may be evaluated.
        store: to which evaluations are written, and from which earlier ones are taken without evaluating again.
        architectures, objectives: evaluated, in order; no architecture occurs twice.
    """

    evaluate: Evaluate
    queries: int
    store: Evaluations | None = None
    architectures: list[Architecture] = field(default_factory=list)
    objectives: list[Objectives] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._known = dict(self.store) if self.store is not None else {}
        self._rows: dict[Architecture, int] = {}

    def __len__(self) -> int:
        return len(self.architectures)

    def __contains__(self, architecture: Architecture) -> bool:
        return architecture in self._rows

    @property
    def left(self) -> int:
        """Queries that are left."""
        return self.queries - len(self)

    def ask(self, architectures: Sequence[Architecture]) -> list[Objectives]:
        """Returns objectives; those not seen before are evaluated, as far as queries are left.

        Architectures for which none are left are not answered: the result is then shorter.
        """
        new = [each for each in dict.fromkeys(architectures) if each not in self._rows][: max(self.left, 0)]
        unknown = [each for each in new if each not in self._known]
        for architecture, found in zip(unknown, self.evaluate(unknown) if unknown else (), strict=True):
            if self.store is not None:
                self.store.add(architecture, found)
            self._known[architecture] = dict(found)
        for architecture in new:
            self.add(architecture, self._known[architecture])
        return [self.objectives[self._rows[each]] for each in architectures if each in self._rows]

    def add(self, architecture: Architecture, objectives: Objectives) -> None:
        """Adds what was evaluated elsewhere."""
        self._rows[architecture] = len(self.architectures)
        self.architectures.append(architecture)
        self.objectives.append(objectives)

    def values(self, name: str) -> Float[np.ndarray, " evaluated"]:
        """Returns one objective of all, in order."""
        return np.array([each[name] for each in self.objectives], dtype=np.float64)

    def best_so_far(self, name: str) -> Float[np.ndarray, " evaluated"]:
        """Returns the highest value of an objective after each query."""
        found: Float[np.ndarray, " evaluated"] = np.maximum.accumulate(self.values(name))
        return found
