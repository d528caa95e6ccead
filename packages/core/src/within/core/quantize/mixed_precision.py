"""Bits for every layer under a budget, chosen exactly.

    minimise  sum_l S(l, b_w(l), b_a(l))   subject to   sum_l C(l, b_w(l), b_a(l)) <= B,

one pair of bits (b_w, b_a) a layer, over a table of sensitivities S and a `CostTable` C: the multiple-choice knapsack
of `within.core.solve`, optimal with a proof and never above the budget. It is the deterministic counterpart of HAQ
(`haq`), which returns the same kind of `BitAllocation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from within.core.errors import WithinError
from within.core.progress import track
from within.core.quantize.cost_table import Bits, CostTable
from within.core.solve import knapsack


@dataclass(frozen=True)
class BitAllocation:
    """Bits of every layer, and what is known of them.

    Attributes:
        bits: per layer the bits of its weights and of its input activations; -1 is left as it is.
        cost: of the whole network, in the unit of the cost table.
        value: what was maximised: minus the summed sensitivity, or the accuracy that a search was given.
        gap: (upper bound - value) / |upper bound|, 0.0 where optimality is proved; None where there is no bound.
        method: what found it.
    """

    bits: tuple[Bits, ...]
    cost: float
    value: float
    gap: float | None
    method: str


Loss = Callable[[Sequence[Bits]], float]
"""The loss of a network whose layers are quantised to these bits, -1 for float."""


def choose_bits(
    table: CostTable,
    sensitivity: ArrayLike,
    budget: float,
    *,
    fixed: Mapping[int, Bits] | None = None,
    weight_bits: Sequence[int] | None = None,
    activation_bits: Sequence[int] | None = None,
) -> BitAllocation:
    """Returns the bits of least summed sensitivity within the budget.

    Arguments:
        table: the costs.
        sensitivity: shape (layers, weight bits, activation bits) as the table; the loss that a layer at these bits
            adds. Any real numbers.
        budget: the most that the network may cost, in the unit of the table.
        fixed: layers whose bits are given, by index (HAQ keeps the first and the last).
        weight_bits, activation_bits: bits to choose from, where fewer than the table has.

    Raises:
        InfeasibleBudget: when even the cheapest bits cost more, with the least possible cost.
        WithinError: a sensitivity of another shape or not finite; bits that the table does not have.
    """
    losses = checked_sensitivity(sensitivity, table)
    options = allowed_bits(table, fixed, weight_bits, activation_bits)
    indices = [[table.index(layer, pair) for pair in pairs] for layer, pairs in enumerate(options)]
    solution = knapsack(
        [[-losses[layer][index] for index in places] for layer, places in enumerate(indices)],
        [[table.cost[layer][index] for index in places] for layer, places in enumerate(indices)],
        budget,
        group_names=table.layers,
        budget_names=[table.unit or "the cost of the bits"],
    )
    bits = tuple(pairs[option] for pairs, option in zip(options, solution.choice))
    return BitAllocation(bits, solution.cost, solution.value, solution.gap, f"knapsack ({solution.method})")


def sensitivity_of(table: CostTable, sensitivity: ArrayLike, bits: Sequence[Bits]) -> float:
    """Returns the summed sensitivity of given bits: what `choose_bits` minimises.

    Raises:
        WithinError: as `choose_bits`.
    """
    losses = checked_sensitivity(sensitivity, table)
    table.of(bits)  # as many as there are layers
    return float(sum(losses[layer][table.index(layer, pair)] for layer, pair in enumerate(bits)))


def measure_sensitivity(loss: Loss, table: CostTable) -> NDArray[np.float64]:
    """Returns a sensitivity table measured with one operand of one layer quantised at a time.

        S(l, b_w, b_a) = [L(w_l at b_w) - L(float)] + [L(x_l at b_a) - L(float)],

    so it takes layers x (weight bits + activation bits) + 1 evaluations instead of one for each pair. Measure with the
    corrections in place that the network will be used with: they change which layers are sensitive.

    Arguments:
        loss: the network's loss at given bits, -1 for float; for example `bit_trial.BitTrial(...).divergence`.
        table: says how many layers and which bits.

    Returns:
        shape (layers, weight bits, activation bits), in the unit of the loss.

    Raises:
        WithinError: when a loss is not finite.
    """
    plain: list[Bits] = [(-1, -1)] * len(table)
    reference = _finite(loss(plain), "in float")
    measured = np.zeros(table.cost.shape)
    for layer in track(range(len(table)), "Sensitivity of the layers"):
        name = table.layers[layer]

        def rise(pair: Bits, layer: int = layer, name: str = name) -> float:
            bits = [*plain[:layer], pair, *plain[layer + 1 :]]
            return _finite(loss(bits), f"{name} at {pair[0]} and {pair[1]} bits") - reference

        weights = [rise((bits, -1)) for bits in table.weight_bits]
        activations = [rise((-1, bits)) for bits in table.activation_bits]
        measured[layer] = np.add.outer(weights, activations)
    return measured


def allowed_bits(
    table: CostTable,
    fixed: Mapping[int, Bits] | None = None,
    weight_bits: Sequence[int] | None = None,
    activation_bits: Sequence[int] | None = None,
) -> list[list[Bits]]:
    """Returns the pairs of bits that each layer may take.

    Raises:
        WithinError: when a fixed layer does not exist, or nothing is left to choose from.
    """
    fixed = fixed or {}
    for layer in fixed:
        if not 0 <= layer < len(table):
            raise WithinError(f"There is no layer {layer}: the table has {len(table)}", where="fixed")
    weights = tuple(table.weight_bits if weight_bits is None else weight_bits)
    activations = tuple(table.activation_bits if activation_bits is None else activation_bits)
    if not weights or not activations:
        raise WithinError("There are no bits to choose from", where="weight_bits, activation_bits")
    every = [(int(weight), int(activation)) for weight in weights for activation in activations]
    return [[fixed[layer]] if layer in fixed else every for layer in range(len(table))]


def checked_sensitivity(sensitivity: ArrayLike, table: CostTable) -> NDArray[np.float64]:
    """Returns sensitivities as an array of the table's shape.

    Raises:
        WithinError: wrong shape, or a number that is not finite, with its place.
    """
    try:
        losses = np.asarray(sensitivity, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise WithinError(f"The sensitivities are not numbers: {error}", where="sensitivity") from error
    if losses.shape != table.cost.shape:
        raise WithinError(
            f"The sensitivities have the shape {losses.shape}, the costs {table.cost.shape}", where="sensitivity"
        )
    if not np.isfinite(losses).all():
        layer, weight, activation = (int(place) for place in np.argwhere(~np.isfinite(losses))[0])
        raise WithinError(
            f"The sensitivity at {table.weight_bits[weight]} weight bits and {table.activation_bits[activation]} "
            f"activation bits is {losses[layer, weight, activation]}",
            where=table.layers[layer],
        )
    return losses


def _finite(value: float, where: str) -> float:
    if not np.isfinite(value):
        raise WithinError(f"The loss is {value}", where=where)
    return float(value)
