"""A predictor: an encoder and a perceptron that gives an architecture a score, trained on some, ranking all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor, nn

from within.core.errors import WithinError
from within.core.train import fit
from within.nas import losses
from within.nas.spaces import Architecture

Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {"mse": losses.mse, "hinge": losses.hinge, "bce": losses.bce, "listmle": losses.listmle}
BATCH = 4096
PER_CENT = 100.0


class Predictor(nn.Module):
    """See the module.

    Arguments:
        encoder: with an `embedding_width`.
        widths: of the perceptron between embedding and score.
        dropout: after each of its layers.
        outputs: numbers for each architecture; with one, a score.
    """

    def __init__(
        self, encoder: nn.Module, widths: Sequence[int] = (300,) * 5, dropout: float = 0.1, *, outputs: int = 1
    ) -> None:
        super().__init__()
        self.encoder = encoder
        layers: list[nn.Module] = []
        sizes = (int(encoder.embedding_width), *widths)  # type: ignore[arg-type]
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.head = nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))

    def forward(self, architectures: Int64[Tensor, "batch genes"]) -> Tensor:
        """Returns a score of each, (batch,), or several numbers, (batch, outputs)."""
        found = self.head(self.encoder(architectures))
        return found[:, 0] if found.shape[1] == 1 else found


def train_predictor(
    predictor: nn.Module,
    architectures: Sequence[Architecture],
    labels: Float[np.ndarray, " architectures"],
    *,
    loss: str | Loss = "hinge",
    **options: Any,
) -> None:
    """Trains a predictor in place.

    Arguments:
        predictor: gives scores.
        architectures: to learn from.
        labels: of each, the higher the better; see `scaled_labels`.
        loss: a name of `LOSSES`, or a function of scores and labels.
        options: see `fit_architectures`: epochs, batch_size, rate, seed.

    Raises:
        WithinError: for fewer than two architectures, an unknown loss, or labels that are missing or all equal.
    """
    if isinstance(loss, str) and loss not in LOSSES:
        raise WithinError(f"There is no loss {loss!r}", todo=f"choose one of {', '.join(LOSSES)}")
    function = LOSSES[loss] if isinstance(loss, str) else loss
    fit_architectures(
        predictor,
        architectures,
        scaled_labels(architectures, labels),
        lambda module, inputs, target: {"loss": function(module(*inputs), target)},
        **options,
    )


def scaled_labels(
    architectures: Sequence[Architecture], labels: Float[np.ndarray, " architectures"]
) -> Float[np.ndarray, " architectures"]:
    """Returns the labels in [0, 1]: as they are, or if they are not per cent / 100, or from the least to the greatest.

    Only regression minds: near its ends, where the last way puts the best architecture, a sigmoid hardly moves.

    Raises:
        WithinError: for fewer than two architectures, or labels that are missing or all equal.
    """
    if len(architectures) < 2:
        raise WithinError(f"{len(architectures)} architecture to learn an order from", todo="give two or more")
    if len(architectures) != len(labels):
        raise WithinError(f"{len(labels)} labels for {len(architectures)} architectures")
    values = np.asarray(labels, dtype=np.float64)
    if not np.isfinite(values).all():
        raise WithinError("A label is NaN or infinite", where=f"row {np.flatnonzero(~np.isfinite(values))[0]}")
    low, high = values.min(), values.max()
    if low == high:
        raise WithinError(f"All labels are {low}", todo="give labels that differ")
    if low >= 0 and high <= PER_CENT:
        return values if high <= 1 else values / PER_CENT
    found: Float[np.ndarray, " architectures"] = (values - low) / (high - low)
    return found


def fit_architectures(
    module: nn.Module,
    architectures: Sequence[Architecture],
    targets: NDArray[np.float64],
    objective: Callable[..., dict[str, Tensor]],
    *,
    epochs: int = 200,
    batch_size: int = 512,
    rate: float = 1e-3,
    seed: int = 0,
    **options: Any,
) -> None:
    """Trains a module in place by Adam.

    Arguments:
        module: takes architectures.
        architectures, targets: a row of each.
        objective: see `within.core.train.fit`.
        epochs, batch_size, rate: of Adam.
        seed: of order, dropout and pairs.
        options: further arguments of `fit`.
    """
    size = min(batch_size, len(architectures))
    fit(
        module,
        (torch.tensor(architectures, dtype=torch.int64), torch.tensor(targets, dtype=torch.float32)),
        iterations=epochs * -(-len(architectures) // size),
        batch_size=size,
        objective=objective,
        optimizer={"type": "Adam", "lr": rate, "fused": True},
        seed=seed,
        **options,
    )


def scores(predictor: nn.Module, architectures: Sequence[Architecture]) -> Float[np.ndarray, " architectures"]:
    """Returns the score of each, in evaluation mode."""
    was_training = predictor.training
    predictor.eval()
    with torch.no_grad():
        parts = torch.tensor(architectures, dtype=torch.int64).split(BATCH)
        found = torch.cat([predictor(part) for part in parts])
    predictor.train(was_training)
    return found.double().numpy()
