"""A comparator: which of two architectures is better, learned from pairs; and the order of many by its answers.

    f(a, b) = MLP([e_a; e_b]) or MLP([e_a; e_b - e_a])
    P(b better) = (sigmoid(f(a, b)) + 1 - sigmoid(f(b, a))) / 2
    loss = L(f(a, b), y) + L(f(b, a), 1 - y),   y = [b is better],   L the hinge or the cross entropy, of pairs

No architecture has a score of its own. An order is found by a quicksort with random pivots that compares all of a level
with their pivots at once, and stops at small segments, which stay in the order of the comparison with their pivot. Ning
et al.: GATES, ECCV 2020, section 3.3.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor, nn

from within.core.errors import WithinError
from within.nas.losses import MARGIN, pairs
from within.nas.predictor import BATCH, fit_architectures, scaled_labels
from within.nas.spaces import Architecture

Pairing = Literal["concatenated", "difference"]
PAIRINGS = ("concatenated", "difference")
LOSSES = ("hinge", "bce")
SEEDS = (1, 12, 123)
SEGMENT = 100
PAIRS = 65_536

Compare = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]


class Comparator(nn.Module):
    """See the module.

    Arguments:
        encoder: with an `embedding_width`.
        widths: of the perceptron on a pair.
        dropout: after each of its layers.
        pairing: whether the second embedding, or its difference from the first, follows the first.

    Raises:
        WithinError: for an unknown pairing.
    """

    def __init__(
        self,
        encoder: nn.Module,
        widths: Sequence[int] = (200,),
        dropout: float = 0.1,
        *,
        pairing: Pairing = "concatenated",
    ) -> None:
        super().__init__()
        if pairing not in PAIRINGS:
            raise WithinError(f"There is no pairing {pairing!r}", todo=f"choose one of {', '.join(PAIRINGS)}")
        self.encoder, self.pairing = encoder, pairing
        layers: list[nn.Module] = []
        sizes = (2 * int(encoder.embedding_width), *widths)  # type: ignore[arg-type]
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.head = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def forward(
        self, first: Int64[Tensor, "batch genes"], second: Int64[Tensor, "batch genes"]
    ) -> Float[Tensor, " batch"]:
        """Returns the probability that the second is better."""
        return self.probability(self.encoder(first), self.encoder(second))

    def compared(self, first: Float[Tensor, "batch width"], second: Float[Tensor, "batch width"]) -> Tensor:
        """Returns f, (batch,), of embeddings."""
        beside = second if self.pairing == "concatenated" else second - first
        return self.head(torch.cat([first, beside], dim=1))[:, 0]

    def probability(self, first: Float[Tensor, "batch width"], second: Float[Tensor, "batch width"]) -> Tensor:
        """Returns the probability that the second is better, (batch,), of embeddings."""
        there, back = torch.sigmoid(self.compared(first, second)), torch.sigmoid(self.compared(second, first))
        return (1 + (there - back)) / 2


def train_comparator(
    comparator: Comparator,
    architectures: Sequence[Architecture],
    labels: Float[np.ndarray, " architectures"],
    *,
    loss: str = "hinge",
    margin: float = MARGIN,
    **options: Any,
) -> None:
    """Trains a comparator in place.

    Arguments:
        comparator: to be trained.
        architectures: to learn from.
        labels: of each, the higher the better.
        loss: of a pair, one of `LOSSES`.
        margin: of the hinge.
        options: see `fit_architectures`: epochs, batch_size, rate, seed.

    Raises:
        WithinError: for an unknown loss, or labels that are missing, too few or all equal.
    """
    if loss not in LOSSES:
        raise WithinError(f"There is no loss {loss!r} of a pair", todo=f"choose one of {', '.join(LOSSES)}")
    targets = scaled_labels(architectures, labels)

    def of_pairs(found: Tensor, better: Tensor) -> Tensor:
        if loss == "bce":
            return F.binary_cross_entropy_with_logits(found, better)
        return F.relu(margin - (2 * better - 1) * found).mean()

    def objective(module: Any, inputs: tuple[Tensor, ...], target: Tensor) -> dict[str, Tensor]:
        embedded = module.encoder(*inputs)
        first, second = pairs(target)
        if not len(first):
            return {"loss": embedded.sum() * 0}
        better = (target[second] > target[first]).to(embedded.dtype)
        there = module.compared(embedded[first], embedded[second])
        back = module.compared(embedded[second], embedded[first])
        return {"loss": of_pairs(there, better) + of_pairs(back, 1 - better)}

    fit_architectures(comparator, architectures, targets, objective, **options)


def ranked(
    comparator: Comparator, architectures: Sequence[Architecture], *, seed: int = 0, segment: int = SEGMENT
) -> NDArray[np.int64]:
    """Returns the numbers of the architectures, the worst first, as the comparator orders them.

    Arguments:
        comparator: in evaluation mode while this runs.
        architectures: each is encoded once.
        seed: of the pivots.
        segment: up to which nothing is sorted further.
    """
    if not architectures:
        return np.zeros(0, np.int64)
    was_training = comparator.training
    comparator.eval()
    with torch.no_grad():
        parts = torch.tensor(architectures, dtype=torch.int64).split(BATCH)
        embedded = torch.cat([comparator.encoder(part) for part in parts])

        def better(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
            rows = zip(torch.from_numpy(first).split(PAIRS), torch.from_numpy(second).split(PAIRS), strict=True)
            found = [comparator.probability(embedded[one], embedded[two]) for one, two in rows]
            return torch.cat(found).double().numpy()

        order = quicksort(len(architectures), better, seed=seed, segment=segment)
    comparator.train(was_training)
    return order


def scores(
    comparator: Comparator,
    architectures: Sequence[Architecture],
    *,
    seeds: Sequence[int] = SEEDS,
    segment: int = SEGMENT,
) -> Float[np.ndarray, " architectures"]:
    """Returns the mean place of each, over the orders of several seeds: the higher the better."""
    places = [np.argsort(ranked(comparator, architectures, seed=seed, segment=segment)) for seed in seeds]
    return np.stack(places).mean(axis=0, dtype=np.float64)


def quicksort(count: int, better: Compare, *, seed: int = 0, segment: int = SEGMENT) -> NDArray[np.int64]:
    """Returns the numbers 0 to count - 1, the worst first.

    What is as good as its pivot stays beside it.

    Arguments:
        count: of what is sorted.
        better: gives the probabilities that the second ones are better than the first ones.
        seed: of the pivots.
        segment: up to which nothing is sorted further.
    """
    order = np.random.default_rng(seed).permutation(count)
    segments = [(0, count)] if count > 1 else []
    while segments:
        pivots = np.concatenate([np.full(high - low - 1, order[low]) for low, high in segments])
        others = np.concatenate([order[low + 1 : high] for low, high in segments])
        found = better(pivots, others)
        further, at = [], 0
        for low, high in segments:
            chances, members = found[at : at + high - low - 1], others[at : at + high - low - 1]
            at += high - low - 1
            by_chance = np.argsort(chances, kind="stable")
            chances, members = chances[by_chance], members[by_chance]
            worse, not_better = np.searchsorted(chances, 0.5, "left"), np.searchsorted(chances, 0.5, "right")
            equal = np.concatenate([order[low : low + 1], members[worse:not_better]])
            order[low:high] = np.concatenate([members[:worse], equal, members[not_better:]])
            for begin, end in ((low, low + worse), (low + not_better + 1, high)):
                if end - begin > max(segment, 1):
                    middle = (begin + end) // 2  # the next pivot; halves the segment if the chances are in order
                    order[begin], order[middle] = order[middle], order[begin]
                    further.append((int(begin), int(end)))
        segments = further
    return order
