"""Scores at several times of a training: one after each step of TA-GATES, each learned from the label of its time.

    s_t(a) = MLP_t(embedding after step t);   loss = sum over steps t of L(s_t, y_t)

Ning et al.: TA-GATES: An Encoding Scheme for Neural Network Architectures, NeurIPS 2022: prediction of anytime
performance, where L is the regression loss. Early accuracies are cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from within.core.errors import WithinError
from within.nas.encoders.ta_gates_edge import TaGatesEdgeEncoder
from within.nas.encoders.ta_gates_node import TaGatesNodeEncoder
from within.nas.predictor import LOSSES, Predictor, fit_architectures
from within.nas.spaces import Architecture


class AnytimePredictor(nn.Module):
    """See the module.

    Arguments:
        encoder: with a number of `time_steps`.
        widths: of the perceptron of each step.
        dropout: after each of its layers.
    """

    def __init__(
        self,
        encoder: TaGatesEdgeEncoder | TaGatesNodeEncoder,
        widths: Sequence[int] = (200,),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(Predictor(encoder, widths, dropout).head for _ in range(encoder.time_steps))

    def forward(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, " batch"]:
        """Returns the score of each at the end."""
        return self.heads[-1](self.encoder(architectures))[:, 0]

    def each_step(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "batch steps"]:
        """Returns the score of each at every time."""
        embedded = self.encoder.each_step(architectures)
        return torch.cat([head(each) for head, each in zip(self.heads, embedded, strict=True)], dim=1)


def train_anytime(
    predictor: AnytimePredictor,
    architectures: Sequence[Architecture],
    labels: Float[np.ndarray, "architectures steps"],
    *,
    loss: str = "hinge",
    **options: Any,
) -> None:
    """Trains a predictor in place.

    Arguments:
        predictor: to be trained.
        architectures: to learn from.
        labels: a column for each step, the higher the better, NaN where there is none; brought to [0, 1].
        loss: a name of `within.nas.predictor.LOSSES`; "mse" as published.
        options: see `fit_architectures`: epochs, batch_size, rate, seed.

    Raises:
        WithinError: for an unknown loss, more or fewer columns than steps, or one of less than two different labels.
    """
    if loss not in LOSSES:
        raise WithinError(f"There is no loss {loss!r}", todo=f"choose one of {', '.join(LOSSES)}")
    values, steps = np.asarray(labels, dtype=np.float64), len(predictor.heads)
    if values.shape != (len(architectures), steps):
        raise WithinError(f"Labels of {values.shape} for {len(architectures)} architectures and {steps} steps")
    there = np.isfinite(values)
    for step in range(steps):
        if len(np.unique(values[there[:, step], step])) < 2:
            raise WithinError(f"The label of step {step} takes fewer than two values", todo="give other labels")
    low = np.where(there, values, np.inf).min(axis=0)
    high = np.where(there, values, -np.inf).max(axis=0)
    scaled = np.where(there, (values - low) / (high - low), 0)

    def objective(module: Any, inputs: tuple[Tensor, ...], target: Tensor) -> dict[str, Tensor]:
        found = module.each_step(*inputs)
        total = found.sum() * 0
        for step in range(steps):
            rows = target[:, steps + step] > 0
            if rows.any():
                total = total + LOSSES[loss](found[rows, step], target[rows, step])
        return {"loss": total}

    fit_architectures(predictor, architectures, np.concatenate([scaled, there], axis=1), objective, **options)
