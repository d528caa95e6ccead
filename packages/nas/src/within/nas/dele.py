"""DELE: experts on cheap labels, mixed by a gate that sees the architecture.

    score(a) = sum over experts k of w_k(a) s_k(a),   w(a) = softmax(gate(a))

Two steps: each expert learns the order by its own low-fidelity label, on all architectures that have it; then experts
and gate together learn the order of the few true labels. Zhao et al.: Dynamic Ensemble of Low-Fidelity Experts:
Mitigating NAS "Cold-Start", AAAI 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from within.core.errors import WithinError
from within.nas.losses import hinge
from within.nas.predictor import Predictor, fit_architectures, train_predictor
from within.nas.spaces import Architecture


class DynamicEnsemble(nn.Module):
    """See the module.

    Arguments:
        experts: how many.
        make_encoder: gives a new encoder for each expert and the gate.
        widths, dropout: of their perceptrons.
        dynamic: weights depend on the architecture; otherwise one learned vector serves all.
    """

    def __init__(
        self,
        experts: int,
        make_encoder: Callable[[], nn.Module],
        widths: Sequence[int] = (300,) * 5,
        dropout: float = 0.1,
        *,
        dynamic: bool = True,
    ) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Predictor(make_encoder(), widths, dropout) for _ in range(experts))
        self.gate = Predictor(make_encoder(), widths, dropout, outputs=experts) if dynamic else None
        self.shares = None if dynamic else nn.Parameter(torch.zeros(experts))

    def forward(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, " batch"]:
        """Returns a score of each."""
        return (self.weights(architectures) * self.opinions(architectures)).sum(1)

    def opinions(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "batch experts"]:
        """Returns the score by each expert."""
        return torch.stack([expert(architectures) for expert in self.experts], dim=1)

    def weights(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "batch experts"]:
        """Returns the weight of each expert; they add up to one."""
        if self.gate is None:
            assert self.shares is not None
            return torch.softmax(self.shares, 0).expand(len(architectures), -1)
        return torch.softmax(self.gate(architectures), dim=1)


def train_experts(
    ensemble: DynamicEnsemble,
    architectures: Sequence[Architecture],
    labels: Float[np.ndarray, "architectures experts"],
    **options: Any,
) -> None:
    """Trains each expert on its label, in place; the gate stays as it is.

    Arguments:
        ensemble: to be trained.
        architectures: to learn from.
        labels: a column for each expert, NaN where there is none.
        options: see `fit_architectures`: epochs, batch_size, rate, seed.

    Raises:
        WithinError: when there are more or fewer columns than experts, or one has less than two different labels.
    """
    values = np.asarray(labels, dtype=np.float64)
    if values.shape != (len(architectures), len(ensemble.experts)):
        raise WithinError(
            f"Labels of {values.shape} for {len(architectures)} architectures and {len(ensemble.experts)} experts"
        )
    there = np.isfinite(values)
    for column in range(values.shape[1]):
        found = values[there[:, column], column]
        if len(found) < 2 or found.min() == found.max():
            raise WithinError(f"The label of expert {column} takes fewer than two values", todo="leave it out")
    known = np.where(there, values, np.nan)
    low, high = np.nanmin(known, axis=0), np.nanmax(known, axis=0)
    scaled = np.where(there, (values - low) / (high - low), 0)

    def objective(module: Any, inputs: tuple[Tensor, ...], target: Tensor) -> dict[str, Tensor]:
        opinions = module.opinions(*inputs)
        experts = opinions.shape[1]
        losses = []
        for number in range(experts):
            rows = target[:, experts + number] > 0
            losses.append(hinge(opinions[rows, number], target[rows, number]))
        return {"loss": torch.stack(losses).sum()}

    fit_architectures(ensemble, architectures, np.concatenate([scaled, there], axis=1), objective, **options)


def train_ensemble(
    ensemble: DynamicEnsemble,
    architectures: Sequence[Architecture],
    labels: Float[np.ndarray, " architectures"],
    **options: Any,
) -> None:
    """Trains experts and gate together on true labels, in place; see `train_predictor`."""
    train_predictor(ensemble, architectures, labels, loss="hinge", **options)
