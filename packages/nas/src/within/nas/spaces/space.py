"""A search space: genes, each with the values it may have, and which combinations are networks.

An architecture is a tuple with the number of a value for each gene. Everything else (drawing, mutating, crossing over,
counting) is the same for all spaces.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.random import Generator

from within.core.errors import WithinError

Architecture = tuple[int, ...]
MOST_TRIES = 10_000


@dataclass(frozen=True)
class Gene:
    """One decision.

    Attributes:
        name: of it.
        values: to choose from.
    """

    name: str
    values: tuple[str | int, ...]


@dataclass(frozen=True)
class Space:
    """See the module.

    Attributes:
        name: of the space.
        genes: in order.
        is_network: whether a combination of values is a network of the space.
        canonical: gives equal results for architectures that are the same network.
    """

    name: str
    genes: tuple[Gene, ...]
    is_network: Callable[[Architecture], bool] = lambda _: True
    canonical: Callable[[Architecture], object] = lambda architecture: architecture

    @property
    def combinations(self) -> int:
        """Number of combinations of values, networks or not."""
        return math.prod(len(gene.values) for gene in self.genes)

    def check(self, architecture: Sequence[int], where: str = "") -> Architecture:
        """Returns the architecture.

        Raises:
            WithinError: when it has another length, a value that is not there, or is no network of the space.
        """
        found = tuple(int(value) for value in architecture)
        if len(found) != len(self.genes):
            raise WithinError(
                f"An architecture of {self.name} has {len(self.genes)} genes, this one {len(found)}",
                where=where or str(list(found)),
            )
        for gene, value in zip(self.genes, found, strict=True):
            if not 0 <= value < len(gene.values):
                raise WithinError(
                    f"{gene.name} is {value}", where=where or str(list(found)), todo=f"give 0 to {len(gene.values) - 1}"
                )
        if not self.is_network(found):
            raise WithinError(f"{list(found)} is no network of {self.name}", where=where or None)
        return found

    def all(self) -> Iterator[Architecture]:
        """Yields every network of the space."""
        for found in itertools.product(*(range(len(gene.values)) for gene in self.genes)):
            if self.is_network(found):
                yield found

    def random(self, generator: Generator) -> Architecture:
        """Returns a network, every combination being equally likely.

        Raises:
            WithinError: when none is found in 10,000 tries.
        """
        for _ in range(MOST_TRIES):
            found = tuple(
                int(share * len(gene.values))
                for gene, share in zip(self.genes, generator.random(len(self.genes)).tolist(), strict=True)
            )
            if self.is_network(found):
                return found
        raise WithinError(f"No network of {self.name} was found in {MOST_TRIES:,} tries")

    def mutated(self, architecture: Architecture, generator: Generator, genes: int = 1) -> Architecture:
        """Returns a network that differs in so many genes, drawn at random.

        Raises:
            WithinError: when none is found in 10,000 tries.
        """
        free = [number for number, gene in enumerate(self.genes) if len(gene.values) > 1]
        for _ in range(MOST_TRIES):
            found = list(architecture)
            for number in generator.permutation(free)[:genes].tolist():
                other = int(generator.random() * (len(self.genes[number].values) - 1))  # among those it has not
                found[number] = other + (other >= found[number])
            if self.is_network(tuple(found)):
                return tuple(found)
        raise WithinError(f"{list(architecture)} has no neighbour in {self.name}")

    def crossed(self, one: Architecture, two: Architecture, generator: Generator) -> Architecture:
        """Returns a network with each gene from either of two; `one` itself when no such network is found."""
        for _ in range(100):
            found = tuple(a if generator.random() < 0.5 else b for a, b in zip(one, two, strict=True))
            if self.is_network(found):
                return found
        return one

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """Yields every network that differs in one gene."""
        for number, gene in enumerate(self.genes):
            for value in range(len(gene.values)):
                found = (*architecture[:number], value, *architecture[number + 1 :])
                if value != architecture[number] and self.is_network(found):
                    yield found

    def one_hot(self, architectures: Sequence[Architecture]) -> Float[np.ndarray, "architectures features"]:
        """Returns a column for each value of each gene."""
        numbers = np.asarray(architectures, dtype=np.int64).reshape(-1, len(self.genes))
        columns = [np.eye(len(gene.values))[numbers[:, at]] for at, gene in enumerate(self.genes)]
        return np.concatenate(columns, axis=1)
