"""What the training configurations of all domains say alike: how a run is seeded, logged and kept."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings that `within.core.train.fit` takes as they are.

    Attributes:
        seed: decides the order of the items and all random numbers.
        checkpoint_every, keep_checkpoints: steps between two checkpoints, and how many stay.
        log_every: steps that a line of the log covers.
        tensorboard: log for TensorBoard as well.
    """

    seed: int = 0
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    log_every: int = 50
    tensorboard: bool = False

    def run_options(self) -> dict[str, Any]:
        """Returns them as arguments of `fit`."""
        return {field.name: getattr(self, field.name) for field in fields(RunSettings)}
