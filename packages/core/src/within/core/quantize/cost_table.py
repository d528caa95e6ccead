"""What each layer costs at each pair of bit widths: the table that mixed precision is solved over.

Read from a `.npy` file of shape (layers, weight bits, activation bits), such as the simulated accelerator of HAQ (Wang
et al., CVPR 2019), or made from a `Graph` by the usual model of a bit-serial multiplier:

    cost(l, b_w, b_a) = MACs(l) * b_w * b_a.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from within.core.cost import Macs
from within.core.errors import WithinError
from within.core.graph import Graph
from within.core.graph.operator import Operator

Bits = tuple[int, int]
"""Bits of a layer's weights and of its input activations; -1 leaves that operand as it is."""

UNTOUCHED = -1


@dataclass(frozen=True, eq=False)
class CostTable:
    """Costs of every layer, checked.

    Attributes:
        cost: shape (layers, weight bits, activation bits), at least 0, in `unit`.
        layers: a name for each layer, in order.
        weight_bits, activation_bits: the bit widths that the axes stand for, ascending.
        unit: of the costs.
        untouched: array index, on either axis, where an operand that is left as it is (bits -1) is looked up: the
            widest by default. The published code of HAQ subtracts one from the bits and so reads index -2.
    """

    cost: NDArray[np.float64] = field(repr=False)
    layers: tuple[str, ...] = field(repr=False)
    weight_bits: tuple[int, ...]
    activation_bits: tuple[int, ...]
    unit: str = ""
    untouched: int = -1

    def __len__(self) -> int:
        return len(self.layers)

    def index(self, layer: int, bits: Bits) -> tuple[int, int]:
        """Returns where the bits of a layer stand on the two axes.

        Raises:
            WithinError: when the table has no such bits.
        """
        return (
            self._place(layer, bits[0], self.weight_bits, "weights"),
            self._place(layer, bits[1], self.activation_bits, "activations"),
        )

    def of(self, bits: Sequence[Bits]) -> float:
        """Returns the cost of a whole network, one (weight bits, activation bits) a layer, rounded once.

        Raises:
            WithinError: when there are not as many pairs as layers, or the table has no such bits.
        """
        if len(bits) != len(self):
            raise WithinError(f"There are {len(bits)} pairs of bits for {len(self)} layers", where="the cost table")
        return math.fsum(float(self.cost[layer][self.index(layer, pair)]) for layer, pair in enumerate(bits))

    def uniform(self, weight_bits: int, activation_bits: int) -> float:
        """Returns the cost with the same bits in every layer."""
        return self.of([(weight_bits, activation_bits)] * len(self))

    def _place(self, layer: int, bits: int, axis: tuple[int, ...], operand: str) -> int:
        if bits == UNTOUCHED:
            return range(len(axis))[self.untouched]
        if bits not in axis:
            raise WithinError(
                f"The table has no cost for {operand} of {bits} bits",
                where=self.layers[layer],
                todo=f"choose from {', '.join(str(each) for each in axis)}",
            )
        return axis.index(bits)


def cost_table(
    cost: ArrayLike,
    *,
    layers: Sequence[str] | None = None,
    weight_bits: Sequence[int] | None = None,
    activation_bits: Sequence[int] | None = None,
    unit: str = "",
    untouched: int = -1,
    where: str = "the cost table",
) -> CostTable:
    """Returns costs as a checked table.

    Arguments:
        cost: shape (layers, weight bits, activation bits).
        layers: a name for each layer; None counts them.
        weight_bits, activation_bits: what the axes stand for, ascending; None is 1, 2, 3, ...
        unit: of the costs.
        untouched: see `CostTable`.
        where: the file or option that error messages name.

    Raises:
        WithinError: wrong shape, NaN, infinite or negative costs, names or bits that do not fit the shape.
    """
    try:
        array = np.asarray(cost, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise WithinError(f"The costs are not numbers: {error}", where=where) from error
    if array.ndim != 3 or 0 in array.shape:
        raise WithinError(
            f"A cost table has the shape (layers, weight bits, activation bits), not {array.shape}", where=where
        )
    names = tuple(f"layer {number}" for number in range(array.shape[0])) if layers is None else tuple(layers)
    if len(names) != array.shape[0]:
        raise WithinError(f"There are {len(names)} names for {array.shape[0]} layers", where=where)
    weights = _axis(weight_bits, array.shape[1], "weight", where)
    activations = _axis(activation_bits, array.shape[2], "activation", where)
    for wrong, what in ((~np.isfinite(array), "not a finite number"), (array < 0, "negative")):
        if wrong.any():
            layer, w, a = (int(place) for place in np.argwhere(wrong)[0])
            raise WithinError(
                f"The cost at {weights[w]} weight bits and {activations[a]} activation bits is {array[layer, w, a]}, "
                f"{what}",
                where=f"{where}, {names[layer]}",
            )
    for axis in (weights, activations):
        if not -len(axis) <= untouched < len(axis):
            raise WithinError(f"untouched={untouched} is no index of an axis of {len(axis)}", where=where)
    array = array.copy()
    array.setflags(write=False)
    return CostTable(array, names, weights, activations, unit, untouched)


def read_cost_table(
    path: str | Path,
    *,
    layers: Sequence[str] | None = None,
    weight_bits: Sequence[int] | None = None,
    activation_bits: Sequence[int] | None = None,
    unit: str = "",
    untouched: int = -1,
) -> CostTable:
    """Reads a table from a `.npy` file; the arguments are those of `cost_table`.

    Raises:
        WithinError: when the file is missing or no array of numbers, or the table is wrong.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise WithinError(f"Could not read the cost table: {error.strerror or error}", where=str(path)) from error
    except (ValueError, EOFError) as error:
        raise WithinError(f"This is no .npy array of numbers: {error}", where=str(path)) from error
    if not isinstance(array, np.ndarray):
        raise WithinError("This is an archive of several arrays, not one .npy array", where=str(path))
    return cost_table(
        array,
        layers=layers,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        unit=unit,
        untouched=untouched,
        where=str(path),
    )


def mac_bits(
    graph: Graph,
    *,
    weight_bits: Sequence[int] = tuple(range(1, 9)),
    activation_bits: Sequence[int] = tuple(range(1, 9)),
) -> CostTable:
    """Returns MACs x weight bits x activation bits of every convolution and linear layer of a graph.

    Layers are named as their modules, in the order of execution; a layer that runs several times is one row.

    Raises:
        WithinError: when the graph has no layer with weights.
    """
    macs = layer_macs(graph)
    if not macs:
        raise WithinError("The graph has no convolution or linear layer with weights", where=type(graph.model).__name__)
    products = np.multiply.outer(np.asarray(weight_bits, dtype=np.float64), np.asarray(activation_bits))
    return cost_table(
        np.multiply.outer(np.asarray(list(macs.values()), dtype=np.float64), products),
        layers=list(macs),
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        unit="MACs x bits x bits",
        where=f"MACs x bits of {type(graph.model).__name__}",
    )


def layer_macs(graph: Graph) -> Mapping[str, int]:
    """Returns the multiply-accumulates of every layer with weights."""
    by_operator = Macs().by_operator(graph)
    macs: dict[str, int] = {}
    for layer, op in weighted_layers(graph):
        macs[layer] = macs.get(layer, 0) + by_operator.get(op.name, 0)
    return macs


def weighted_layers(graph: Graph) -> Iterator[tuple[str, Operator]]:
    """Yields (module name, operator) of every convolution and linear operator that reads a weight."""
    for op in graph.operators:
        name = graph.parameters.get(getattr(op.get("weight"), "name", ""))
        if name is not None and (op.kind.startswith("conv") or op.kind == "linear"):
            yield name.rpartition(".")[0] or name, op


def _axis(bits: Sequence[int] | None, size: int, operand: str, where: str) -> tuple[int, ...]:
    axis = tuple(range(1, size + 1)) if bits is None else tuple(int(each) for each in bits)
    if len(axis) != size:
        raise WithinError(f"There are {len(axis)} {operand} bit widths for an axis of {size}", where=where)
    if any(low >= high for low, high in itertools.pairwise(axis)) or axis[0] < 1:
        raise WithinError(f"The {operand} bits must ascend from at least 1, not {list(axis)}", where=where)
    return axis
