"""Deep Compression from end to end: prune and retrain in rounds, share weights, train the centroids.

Han, Mao, Dally, "Deep Compression", ICLR 2016, figure 1. What comes out is the same plain module with few different
weights, most of them zero; `within.core.packing.pack` stores it without changing it further.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from within.core.errors import WithinError
from within.core.packing.pack import by_name, weight_names
from within.core.packing.weight_sharing import Initial, share_weights
from within.core.sparse import apply_masks, brain_surgeon, density_of, magnitude_masks
from within.core.train.fit import fit
from within.core.train.sparse_hook import SparseHook
from within.core.train.weight_sharing_hook import WeightSharingHook

Moments = Callable[[nn.Module], Mapping[str, Tensor]]


@dataclass(frozen=True)
class DeepCompressionSettings:
    """What is removed, what is shared, and how long each stage trains.

    Attributes:
        density: share of the weights that stays; for all weights or by name or pattern; None prunes nothing.
        quality: instead of it, q of the threshold q std(w), likewise.
        bits: of a weight's code, likewise; None shares nothing.
        rounds: pruning steps, in equal ratios of density (or equal steps of q), with retraining after each.
        retraining: iterations after the last round; the rounds before it take `early_share` of that each.
        early_share: see there.
        sharing: iterations that train the centroids.
        retraining_rate, sharing_rate: learning rates of Adam.
        initial: where the centroids start.
        seed: of everything random.
    """

    density: float | Mapping[str, float] | None = None
    quality: float | Mapping[str, float] | None = None
    bits: int | Mapping[str, int] | None = None
    rounds: int = 4
    retraining: int = 4000
    early_share: float = 0.25
    sharing: int = 1000
    retraining_rate: float = 1e-3
    sharing_rate: float = 1e-4
    initial: Initial = "linear"
    seed: int = 0


def deep_compression(
    model: nn.Module, training: Mapping[str, Any], settings: DeepCompressionSettings, *, moments: Moments | None = None
) -> dict[str, float]:
    """Compresses a trained model in place.

    Arguments:
        model: plain before and after.
        training: arguments of `fit`: data, batch_size, loss, teacher, distillation and so on; iterations, optimizer,
            schedule, hooks and seed are the stages' own.
        settings: densities, bits and stages.
        moments: `moments(model) -> {weight: E[x x^T] of its input}`; weights that it names are pruned by the brain
            surgeon, the others by magnitude.

    Returns:
        The density of each pruned weight.

    Raises:
        WithinError: for settings or data that do not work.
    """
    if settings.rounds < 1 or not (settings.density is None or settings.quality is None):
        raise WithinError("Deep compression needs one round or more, and not both a density and a quality parameter")
    taken = sorted({"iterations", "optimizer", "schedule", "hooks", "seed", "description"} & set(training))
    if taken:
        raise WithinError(f"The stages choose {', '.join(taken)} themselves", where="training", todo="leave them out")
    parameters = dict(model.named_parameters())
    weights = weight_names(parameters)
    masks: dict[str, Tensor] = {}
    prunes = settings.density is not None or settings.quality is not None
    for number in range(1, settings.rounds + 1 if prunes else 1):
        masks = _prune(model, settings, weights, number / settings.rounds, moments)
        share = 1.0 if number == settings.rounds else settings.early_share
        iterations = round(share * settings.retraining)
        hook, seed = SparseHook(masks), settings.seed + number
        _train(model, training, iterations, settings.retraining_rate, hook, seed, f"Retraining {number}")
    bits = by_name(settings.bits, weights, what="bits")
    shared = {
        name: share_weights(parameters[name], 1 << width, initial=settings.initial, seed=settings.seed)
        for name, width in bits.items()
    }
    with torch.no_grad():
        for name, each in shared.items():
            parameters[name].copy_(each.weight())
    if shared:
        hook = WeightSharingHook(shared)
        _train(model, training, settings.sharing, settings.sharing_rate, hook, settings.seed, "Training centroids")
    return {name: density_of({name: mask}) for name, mask in masks.items()}


def _prune(
    model: nn.Module, settings: DeepCompressionSettings, names: list[str], progress: float, moments: Moments | None
) -> dict[str, Tensor]:
    """Prunes to what is due at this share of the rounds and returns the masks."""
    weights = {name: dict(model.named_parameters())[name].detach() for name in names}
    if settings.quality is not None:
        quality = {name: q * progress for name, q in by_name(settings.quality, names, what="quality").items()}
        masks = magnitude_masks(weights, quality=quality)
        apply_masks(model, masks)
        return masks
    density = {name: share**progress for name, share in by_name(settings.density, names, what="density").items()}
    known = moments(model) if moments is not None else {}
    masks = {}
    for name, share in density.items():
        if name in known:
            repaired, masks[name] = brain_surgeon(weights[name].flatten(1), known[name], share)
            weights[name].copy_(repaired.reshape(weights[name].shape))
            masks[name] = masks[name].reshape(weights[name].shape)
        else:
            masks.update(magnitude_masks(weights, density={name: share}))
    apply_masks(model, masks)
    return masks


def _train(
    model: nn.Module, training: Mapping[str, Any], iterations: int, rate: float, hook: Any, seed: int, description: str
) -> None:
    if not iterations:
        return
    fit(
        model,
        **training,
        iterations=iterations,
        optimizer={"type": "Adam", "lr": rate},
        schedule="warm_cosine",
        hooks=[hook],
        seed=seed,
        description=description,
    )
