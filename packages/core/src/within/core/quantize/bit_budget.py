"""Bits for every layer of a network within a budget, from the network and calibration data alone: no labels, no search.

The cost of bits (MACs x weight bits x activation bits, or a table of the device), the sensitivity of each layer to them
(`BitTrial.divergence`, one operand of one layer at a time), then the exact knapsack of `mixed_precision`. The result
goes into `QuantizationSettings(bits=...)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from within.core.errors import WithinError
from within.core.graph import trace
from within.core.quantize.bit_trial import BitTrial
from within.core.quantize.cost_table import Bits, CostTable, cost_table, mac_bits, read_cost_table
from within.core.quantize.mixed_precision import BitAllocation, choose_bits, measure_sensitivity


@dataclass(frozen=True)
class BitBudget:
    """What the bits may cost, and which there are.

    Attributes:
        fraction: the most that they cost, as a share of the cost of the widest bits everywhere.
        limit: instead, the most in the unit of the table.
        table: a `.npy` file of shape (layers, weight bits, activation bits), whose bits count from 1 and whose layers
            are those of the network in order of execution; None counts MACs x weight bits x activation bits.
        weight_bits, activation_bits: to choose from.
        keep_ends: leave the first and the last layer at the widest bits.
        correct: judge bits with the correction `moments`.
    """

    fraction: float | None = None
    limit: float | None = None
    table: str | Path | None = None
    weight_bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8)
    activation_bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8)
    keep_ends: bool = True
    correct: bool = True

    def __post_init__(self) -> None:
        if (self.fraction is None) == (self.limit is None):
            raise WithinError("Give a fraction or a limit for the bits, one of the two", where="the budget of bits")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise WithinError(f"A fraction of {self.fraction}", where="the budget of bits", todo="choose 0 to 1")


@dataclass(frozen=True)
class ChosenBits:
    """Bits of each layer by name, with the allocation that they come from, its costs and its budget."""

    bits: dict[str, Bits]
    allocation: BitAllocation
    table: CostTable
    limit: float


def bits_within(model: nn.Module, inputs: Sequence[Any], calibration: Sequence[Any], budget: BitBudget) -> ChosenBits:
    """Returns the bits that change the network's answers least within a budget.

    Arguments:
        model: in floating point, with class scores along axis 1 of its one output; not modified.
        inputs: example inputs.
        calibration: batches of real inputs, tensors or tuples of tensors.
        budget: see `BitBudget`.

    Raises:
        InfeasibleBudget: when even the fewest bits cost more.
        WithinError: when there are no calibration data, or the table is of another network.
    """
    if not calibration:
        raise WithinError("There are no data to choose bits on", where="the budget of bits", todo="set calibration")
    table = _table(model, inputs, budget)
    widest = max(budget.weight_bits), max(budget.activation_bits)
    limit = budget.limit if budget.limit is not None else float(budget.fraction or 1) * table.uniform(*widest)
    trial = BitTrial(model, inputs, table, calibration, correct=budget.correct)
    sensitivity = measure_sensitivity(trial.divergence, table)
    fixed = {0: widest, len(table) - 1: widest} if budget.keep_ends else None
    chosen = choose_bits(table, sensitivity, limit, fixed=fixed)
    return ChosenBits(dict(zip(table.layers, chosen.bits, strict=True)), chosen, table, limit)


def _table(model: nn.Module, inputs: Sequence[Any], budget: BitBudget) -> CostTable:
    graph = trace(model, tuple(inputs))
    weights, activations = tuple(budget.weight_bits), tuple(budget.activation_bits)
    counted = mac_bits(graph, weight_bits=weights, activation_bits=activations)
    if budget.table is None:
        return counted
    read = read_cost_table(budget.table)
    if len(read) != len(counted):
        raise WithinError(
            f"The table has {len(read)} layers, the network {len(counted)}",
            where=str(budget.table),
            todo=f"give one row for each of {', '.join(counted.layers[:3])}, ...",
        )
    cost = [
        [
            [read.cost[layer][read.index(layer, (weight, activation))] for activation in activations]
            for weight in weights
        ]
        for layer in range(len(read))
    ]
    return cost_table(cost, layers=counted.layers, weight_bits=weights, activation_bits=activations, unit=read.unit)
