"""Chooses what is dropped at each place, and how wide the 2-D backbone is, for a budget of MACs or of CPU time.

    minimise   sum over places of the loss that dropping there adds      on labelled scenes
    subject to the cost of the whole pass <= limit

What each share that stays adds to the loss, and by what factor it lowers the cost of each part, is measured for every
place alone. Factors multiply and losses add up; with these all combinations are gone through, and the best is measured.
Where the measured cost is above the limit, the search repeats with a lower one: what is returned has been measured.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from within.core.device.inference import evaluating
from within.core.errors import WithinError
from within.core.progress import track
from within.perception3d.accounting import PARTS, mean_cost, pass_cost
from within.perception3d.ada3d.thinning import Ada3D, DropRates
from within.perception3d.models.detector import Detector

LEVELS = (1.0, 0.9, 0.75, 0.6, 0.5, 0.4, 0.3, 0.2)
Place = tuple[str, int]
Sample = tuple[tuple[Tensor, ...], tuple[Tensor, Tensor]]
CostKind = Literal["macs", "latency"]
Loss = Callable[[Ada3D, Sample], float]
ROUNDS = 10
TIMINGS = 3


@dataclass(frozen=True)
class PlaceOption:
    """A share that may stay at a place.

    Attributes:
        keep: the share.
        added_loss: by this alone.
        factors: of the cost of each part, by this alone.
    """

    keep: float
    added_loss: float
    factors: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class RateSolution:
    """What was chosen.

    Attributes:
        name: of the candidate network.
        rates: what stays; places where all stays are left out.
        cost, limit, dense_cost: measured on the scenes, the limit, and that of the dense network; MACs or CPU seconds.
        predicted_cost, predicted_loss: by the model; the loss is what is added.
        options: measured at each place.
    """

    name: str
    rates: DropRates
    cost: float
    limit: float
    dense_cost: float
    predicted_cost: float
    predicted_loss: float
    options: Mapping[Place, tuple[PlaceOption, ...]]


def solve_rates(
    candidates: Mapping[str, Ada3D],
    samples: Sequence[Sample],
    loss: Loss,
    *,
    dense_cost: float,
    fraction: float,
    kind: CostKind = "macs",
    levels: Sequence[float] = LEVELS,
) -> RateSolution:
    """Returns the best rates among all candidates.

    Arguments:
        candidates: networks by name, such as one for each width; the first is the widest, and losses are over its own.
        samples: inputs and targets of labelled scenes, one scene each.
        loss: of a network on a sample.
        dense_cost: of the network that everything is compared with.
        fraction: of it that may be spent.
        kind: "macs" or "latency", CPU seconds of one thread.
        levels: shares that may stay at a place, 1 first.

    Raises:
        WithinError: when no combination keeps the budget, with the least cost found.
    """
    if not samples:
        raise WithinError("There are no scenes to choose drop rates on", todo="give labelled scenes")
    limit = fraction * dense_cost
    measured = {name: _measured(network, samples, loss, kind, levels) for name, network in candidates.items()}
    reference = next(iter(measured.values()))[1]
    allowed = dict.fromkeys(candidates, limit)
    least = math.inf
    for _ in range(ROUNDS * len(candidates)):
        found = None
        for name, (base, start, options) in measured.items():
            combination = _best(base, options, allowed[name])
            if combination is None:
                continue
            added = combination[2] + start - reference
            if found is None or added < found[3]:
                found = name, combination[0], combination[1], added
        if found is None:
            break
        name, choice, predicted, added = found
        rates = _rates(choice, candidates[name].rates.density)
        with candidates[name].using(rates):
            cost = pass_costs(candidates[name], samples, kind)
        least = min(least, cost)
        if cost <= limit:
            return RateSolution(name, rates, cost, limit, dense_cost, predicted, added, measured[name][2])
        allowed[name] *= min(limit / cost, 1) * 0.99
    raise WithinError(
        f"No drop rates keep {kind} to {fraction:.1%} of the dense network",
        todo=f"the least found was {least / dense_cost:.1%}: raise the budget, or offer lower levels or narrower widths"
        if math.isfinite(least)
        else "raise the budget, or offer lower levels or narrower widths",
    )


def pass_costs(network: Ada3D | Detector, samples: Sequence[Sample], kind: CostKind) -> float:
    """Returns the cost of a pass, a mean over scenes: MACs, or CPU seconds of one thread."""
    return sum(_cost(network, samples, kind))


Measured = tuple[tuple[float, ...], float, dict[Place, tuple[PlaceOption, ...]]]


def _measured(
    network: Ada3D, samples: Sequence[Sample], loss: Loss, kind: CostKind, levels: Sequence[float]
) -> Measured:
    places: list[Place] = [("3d", at) for at in network.places[0]] + [("2d", at) for at in network.places[1]]
    density = network.rates.density
    with network.using(DropRates(density=density)):
        base, start = _cost(network, samples, kind), _loss(network, samples, loss)
    options: dict[Place, tuple[PlaceOption, ...]] = {}
    for place in track(places, "Measuring drop rates"):
        found, worst = [PlaceOption(1.0, 0.0, (1.0,) * len(base))], 0.0
        for keep in levels:
            if keep == 1:
                continue
            with network.using(_rates({place: keep}, density)):
                cost, added = _cost(network, samples, kind), _loss(network, samples, loss) - start
            worst = max(worst, added)  # dropping more is never taken for better
            factors = tuple(after / before if before else 1.0 for after, before in zip(cost, base, strict=True))
            found.append(PlaceOption(keep, worst, factors))
        options[place] = tuple(found)
    return base, start, options


def _best(
    base: Sequence[float], options: Mapping[Place, Sequence[PlaceOption]], limit: float
) -> tuple[dict[Place, float], float, float] | None:
    """Returns shares by place, cost and added loss of the best combination under a limit, or None."""
    if not options:
        return ({}, sum(base), 0.0) if sum(base) <= limit else None
    combinations = list(itertools.product(*(range(len(each)) for each in options.values())))
    chosen = np.array(combinations)
    costs, losses = np.tile(np.array(base), (len(chosen), 1)), np.zeros(len(chosen))
    for column, each in enumerate(options.values()):
        costs *= np.array([option.factors for option in each])[chosen[:, column]]
        losses += np.array([option.added_loss for option in each])[chosen[:, column]]
    totals = costs.sum(1)
    allowed = np.flatnonzero(totals <= limit)
    if not len(allowed):
        return None
    best = allowed[np.lexsort((totals[allowed], losses[allowed]))[0]]
    rates = {
        place: each[number].keep for (place, each), number in zip(options.items(), combinations[best], strict=True)
    }
    return rates, float(totals[best]), float(losses[best])


def _rates(shares: Mapping[Place, float], density: bool) -> DropRates:
    return DropRates(
        {at: keep for (kind, at), keep in shares.items() if kind == "3d" and keep < 1},
        {at: keep for (kind, at), keep in shares.items() if kind == "2d" and keep < 1},
        density,
    )


def _cost(network: Ada3D | Detector, samples: Sequence[Sample], kind: CostKind) -> tuple[float, ...]:
    if kind == "macs":
        cost = mean_cost([pass_cost(network, *inputs) for inputs, _ in samples])
        return tuple(cost.macs[part] for part in PARTS)
    rounds = []
    with evaluating(network), torch.no_grad():
        for _ in range(TIMINGS):
            before = time.thread_time()
            for inputs, _target in samples:
                network(*inputs)
            rounds.append((time.thread_time() - before) / len(samples))
    return (float(np.median(rounds)),)


def _loss(network: Ada3D, samples: Sequence[Sample], loss: Loss) -> float:
    with evaluating(network), torch.no_grad():
        return float(np.mean([loss(network, sample) for sample in samples]))
