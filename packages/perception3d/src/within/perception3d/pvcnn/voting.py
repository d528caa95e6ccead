"""Prediction of clouds of any size by a network for clouds of one size: every point is seen several times.

The points are repeated until they fill `rounds` clouds of the network's size, shuffled and dealt out; of all answers
for a point the most confident one counts. Liu, Tang, Lin, Han: Point-Voxel CNN, NeurIPS 2019, whose evaluation this is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from numpy.typing import NDArray
from torch import nn

from within.core.device.inference import device_of


@dataclass(frozen=True, eq=False)
class Votes:
    """The best answer for each point.

    Attributes:
        confidences: softmax of the class.
        classes: its number; -1 for a point without an answer.
    """

    confidences: Float32[np.ndarray, " points"]
    classes: Int64[np.ndarray, " points"]

    @classmethod
    def none(cls, points: int) -> Votes:
        """Returns no answers."""
        return cls(np.full(points, -1, np.float32), np.full(points, -1, np.int64))

    def add(self, rows: NDArray[np.int64], confidences: NDArray[np.float32], classes: NDArray[np.int64]) -> None:
        """Takes over answers that are more confident; rows may repeat."""
        order = np.argsort(confidences, kind="stable")  # the last write of a row is its most confident one
        rows, confidences, classes = rows[order], confidences[order], classes[order]
        best, chosen = np.full(len(self.classes), -1, np.float32), np.zeros(len(self.classes), np.int64)
        best[rows], chosen[rows] = confidences, classes
        better = best > self.confidences
        self.confidences[better], self.classes[better] = best[better], chosen[better]


def vote(
    network: nn.Module,
    features: NDArray[np.float32],
    *,
    points: int,
    rounds: int,
    classes: range | None = None,
    batch_size: int = 16,
    generator: np.random.Generator,
) -> Votes:
    """Returns the best answer for every point of a cloud.

    Arguments:
        network: maps (batch, channels, points) to scores (batch, classes, points); in `eval` mode.
        features: (channels, points of the cloud).
        points: of a cloud as the network takes it.
        rounds: clouds that are filled; enough of them that every point is seen.
        classes: only these can be answered.
        batch_size: clouds at once.
        generator: shuffles.
    """
    count = features.shape[1]
    rounds = max(rounds, -(-count // points))
    order = generator.permutation(np.resize(np.arange(count), rounds * points))
    device, found = device_of(network), Votes.none(count)
    for first in range(0, rounds, batch_size):
        rows = order[first * points : (first + batch_size) * points]
        clouds = torch.from_numpy(features[:, rows].reshape(len(features), -1, points)).transpose(0, 1)
        with torch.no_grad():
            shares = network(clouds.contiguous().to(device)).float().softmax(1)
            offset = 0 if classes is None else classes.start
            kept = shares if classes is None else shares[:, classes.start : classes.stop]
            best = kept.max(1)
        found.add(rows, best.values.flatten().cpu().numpy(), (best.indices + offset).flatten().cpu().numpy())
    return found
