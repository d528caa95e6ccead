"""Encoders by name and space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import nn

from within.core.errors import WithinError
from within.core.registry import Registry
from within.nas.encoders.cell_genes import CellGenes, interleaved
from within.nas.encoders.gates_edge import GatesEdgeEncoder
from within.nas.encoders.gates_multi_edge import GatesMultiEdgeEncoder
from within.nas.encoders.gates_node import GatesNodeEncoder
from within.nas.encoders.gcn import GcnEdgeEncoder
from within.nas.encoders.gcn_node import GcnNodeEncoder
from within.nas.encoders.sequence import LstmEncoder, MlpEncoder
from within.nas.encoders.ta_gates_edge import TaGatesEdgeEncoder
from within.nas.encoders.ta_gates_node import TaGatesNodeEncoder
from within.nas.spaces import Space, nasbench101, nasbench201


@dataclass(frozen=True)
class Variant:
    """An encoder of a space.

    Attributes:
        network: its class.
        arguments: that the space sets.
    """

    network: Callable[..., nn.Module]
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _sequences(values: list[int]) -> dict[str, Variant]:
    return {"mlp": Variant(MlpEncoder, {"genes": len(values)}), "lstm": Variant(LstmEncoder, {"values": values})}


def _of_space(space: Space) -> list[int]:
    return [len(gene.values) for gene in space.genes]


def _multi_edge(cells: tuple[CellGenes, ...], operations: int, cell_inputs: int = 2) -> dict[str, Variant]:
    """Returns encoders of cells of several input slots; a node's input is the cell's or a node before it."""
    values: dict[int, int] = {}
    for cell in cells:
        for node, (kinds, inputs) in enumerate(zip(cell.operations, cell.inputs, strict=True)):
            values |= dict.fromkeys(kinds, operations) | dict.fromkeys(inputs, cell_inputs + node)
    arguments = {"cells": cells, "operations": operations, "cell_inputs": cell_inputs}
    return {
        **_sequences([values[gene] for gene in sorted(values)]),
        "gates": Variant(GatesMultiEdgeEncoder, arguments),
    }


_EDGES = {"edges": nasbench201.EDGES, "operations": len(nasbench201.OPERATIONS)}
_VERTICES = {"vertices": nasbench101.VERTICES, "operations": len(nasbench101.OPERATIONS)}

ENCODERS: Mapping[str, Mapping[str, Variant]] = MappingProxyType(
    {
        "nasbench201": {
            **_sequences(_of_space(nasbench201.SPACE)),
            "gcn": Variant(GcnEdgeEncoder, _EDGES),
            "gcn_global": Variant(GcnEdgeEncoder, {**_EDGES, "global_node": True}),
            "gates": Variant(GatesEdgeEncoder, _EDGES),
            "ta_gates": Variant(TaGatesEdgeEncoder, {**_EDGES, "parametrised": tuple(nasbench201.KERNELS)}),
        },
        "nasbench101": {
            **_sequences(_of_space(nasbench101.SPACE)),
            "gcn": Variant(GcnNodeEncoder, _VERTICES),
            "gcn_global": Variant(GcnNodeEncoder, {**_VERTICES, "global_node": True}),
            "gates": Variant(GatesNodeEncoder, _VERTICES),
            "ta_gates": Variant(TaGatesNodeEncoder, {**_VERTICES, "parametrised": (0, 1)}),
        },
        # genes: for each node operation, input, operation, input; the normal cell before the reduction cell
        "nasnet_cell": _multi_edge((interleaved(7),), operations=4),
        "darts": _multi_edge((interleaved(4), interleaved(4, first=16)), operations=7),
    }
)


def make_encoder(name: str, space_name: str, **options: Any) -> nn.Module:
    """Returns a freshly initialised encoder.

    Arguments:
        name: mlp, lstm, gcn, gcn_global, gates or ta_gates, as far as the space has it; see `ENCODERS`.
        space_name: of the architectures.
        options: arguments of the encoder that replace those of the space, such as widths.

    Raises:
        WithinError: for a space or an encoder that is not there, or an option that the encoder does not have.
    """
    if space_name not in ENCODERS:
        raise WithinError(f"No encoder knows the space {space_name!r}", todo=f"choose one of {', '.join(ENCODERS)}")
    variants = ENCODERS[space_name]
    if name not in variants:
        others = [space for space in ENCODERS if name in ENCODERS[space]]
        raise WithinError(
            f"There is no encoder {name!r} for {space_name}" + (f", only for {', '.join(others)}" if others else ""),
            todo=f"choose one of {', '.join(variants)}",
        )
    return Registry(variants).build(name, **options)
