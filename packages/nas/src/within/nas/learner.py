"""Learners by name: from architectures and labels to a function that scores others.

A learner is an encoder trained by a loss, experts on cheap labels mixed by a gate (DELE), or a baseline of
scikit-learn. Rankings and searches take any of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file

from within.core.errors import WithinError
from within.core.files import atomic_write
from within.nas.baselines import learn_boosting, learn_forest, learn_ridge
from within.nas.comparator import Comparator, train_comparator
from within.nas.comparator import scores as comparator_scores
from within.nas.dele import DynamicEnsemble, train_ensemble, train_experts
from within.nas.encoders.named import ENCODERS, make_encoder
from within.nas.features import Features, joined, looked_up, nasbench101_graph, nasbench201_graph
from within.nas.predictor import LOSSES, Predictor, scores, train_predictor
from within.nas.spaces import Architecture
from within.nas.tables.table import FAILED, Table

Score = Callable[[Sequence[Architecture]], Float[np.ndarray, " architectures"]]
Learn = Callable[[Sequence[Architecture], Float[np.ndarray, " architectures"], int], Score]
COMPARATOR = "comparator"
BASELINES = {"forest": learn_forest, "boosting": learn_boosting, "ridge": learn_ridge}
GRAPHS: dict[str, Features] = {"nasbench201": nasbench201_graph, "nasbench101": nasbench101_graph}
FEATURES = ("genes", "graph")


@dataclass(frozen=True, kw_only=True)
class LearnerSettings:
    """One learner.

    Attributes:
        name: in tables and plots; that of the encoder or baseline by default.
        encoder: a name of `within.nas.encoders.named`; or
        baseline: "forest", "boosting" or "ridge".
        features: what a baseline reads: a column for each value of each gene ("genes"), or counts, paths and costs of
            the cell ("graph").
        encoder_options: further arguments of the encoder.
        loss: a name of `within.nas.predictor.LOSSES`, or "comparator".
        widths, dropout: of the perceptron after the encoder.
        epochs, batch_size, rate: of training.
        cheap_labels: columns of the table, each for an expert (DELE), or further features of a baseline.
        cheap_epochs: of the experts' training.
        published: Kendall's tau to print beside it, as many as there are shares.
    """

    name: str = ""
    encoder: str | None = None
    baseline: str | None = None
    features: str = "genes"
    encoder_options: dict[str, Any] = field(default_factory=dict)
    loss: str = "hinge"
    widths: Sequence[int] = (300,) * 5
    dropout: float = 0.1
    epochs: int = 200
    batch_size: int = 512
    rate: float = 1e-3
    cheap_labels: Sequence[str] = ()
    cheap_epochs: int = 200
    published: Sequence[float] = ()

    def __post_init__(self) -> None:
        if (self.encoder is None) == (self.baseline is None):
            raise WithinError("A learner needs an encoder or a baseline", where=self.name or "learner", todo="give one")
        for name, value, known in (
            ("encoder", self.encoder, tuple(dict.fromkeys(name for each in ENCODERS.values() for name in each))),
            ("baseline", self.baseline, tuple(BASELINES)),
            ("features", self.features, FEATURES),
            ("loss", self.loss, (*LOSSES, COMPARATOR)),
        ):
            if value is not None and value not in known:
                raise WithinError(
                    f"There is no {name} {value!r}",
                    where=self.name or "learner",
                    todo=f"choose one of {', '.join(known)}",
                )

    @property
    def title(self) -> str:
        """What tables and plots call it."""
        kind = self.encoder or f"{self.baseline} on {self.features}"
        count = len(self.cheap_labels)
        return self.name or (f"{kind} with {count} cheap label{'s' * (count > 1)}" if count else kind)


def learner(settings: LearnerSettings, table: Table, space: str, *, seed: int = 0, keep: Path | None = None) -> Learn:
    """Returns the learner; what it learns from cheap labels, it learns now.

    Arguments:
        settings: see `LearnerSettings`.
        table: with the cheap labels of all architectures that experts may learn from, and features.
        space: name of the space.
        seed: of initialisation, order and dropout; each call of the learner adds its number.
        keep: folder where trained experts are kept, and taken from.

    Raises:
        WithinError: for a space that the encoder does not serve, or an unknown column.
    """
    if settings.baseline is not None:
        return _baseline(settings, table, space, seed)
    if settings.cheap_labels:
        return _ensemble(settings, table, space, seed, keep)
    return _predictor(settings, space, seed)


def digest(*values: object) -> str:
    """Returns a short name of settings, which changes when any of them does."""
    return hashlib.sha256(repr(values).encode()).hexdigest()[:12]


def _options(settings: LearnerSettings, seed: int) -> dict[str, Any]:
    return {"epochs": settings.epochs, "batch_size": settings.batch_size, "rate": settings.rate, "seed": seed}


def _predictor(settings: LearnerSettings, space: str, seed: int) -> Learn:
    def learn(architectures: Sequence[Architecture], labels: np.ndarray, number: int) -> Score:
        torch.manual_seed(seed + 1_000 * number)
        encoder = make_encoder(settings.encoder or "", space, **settings.encoder_options)
        options = _options(settings, seed + 1_000 * number)
        if settings.loss == COMPARATOR:
            comparator = Comparator(encoder, settings.widths, settings.dropout)
            train_comparator(comparator, architectures, labels, **options)
            return lambda others: comparator_scores(comparator, others)
        predictor = Predictor(encoder, settings.widths, settings.dropout)
        train_predictor(predictor, architectures, labels, loss=settings.loss, **options)
        return lambda others: scores(predictor, others)

    return learn


def _ensemble(settings: LearnerSettings, table: Table, space: str, seed: int, keep: Path | None) -> Learn:
    def made() -> DynamicEnsemble:
        torch.manual_seed(seed)
        return DynamicEnsemble(
            len(settings.cheap_labels),
            lambda: make_encoder(settings.encoder or "", space, **settings.encoder_options),
            settings.widths,
            settings.dropout,
        )

    experts = made()
    known = digest(settings, space, table.where, len(table))
    path = None if keep is None else keep / f"experts-{known}-{seed}.safetensors"
    if path is not None and path.is_file():
        experts.load_state_dict(load_file(path))
    else:
        labels = np.stack([table.column(name) for name in settings.cheap_labels], axis=1)
        labels = np.where(labels < FAILED, np.nan, labels)
        options = {**_options(settings, seed), "epochs": settings.cheap_epochs}
        train_experts(experts, table.architectures, labels, **options)
        if path is not None:
            with atomic_write(path) as temporary:
                save_file(experts.state_dict(), temporary)
    state = {name: value.clone() for name, value in experts.state_dict().items()}

    def learn(architectures: Sequence[Architecture], labels: np.ndarray, number: int) -> Score:
        ensemble = made()
        ensemble.load_state_dict(state)
        train_ensemble(ensemble, architectures, labels, **_options(settings, seed + 1_000 * number))
        return lambda others: scores(ensemble, others)

    return learn


def _baseline(settings: LearnerSettings, table: Table, space: str, seed: int) -> Learn:
    fit = BASELINES[settings.baseline or ""]
    parts: list[Features] = []
    if settings.features == "graph":
        if space not in GRAPHS:
            raise WithinError(
                f"There are no graph features of {space!r}",
                todo=f'take features="genes", or one of {", ".join(GRAPHS)}',
            )
        parts.append(GRAPHS[space])
    elif settings.cheap_labels:
        parts.append(table.space.one_hot)
    if settings.cheap_labels:
        missing = looked_up(table, settings.cheap_labels)
        parts.append(lambda architectures: np.where((found := missing(architectures)) < FAILED, np.nan, found))
    features = joined(*parts) if parts else None

    def learn(architectures: Sequence[Architecture], labels: np.ndarray, number: int) -> Score:
        return fit(architectures, labels, seed + 1_000 * number, features=features)

    return learn
