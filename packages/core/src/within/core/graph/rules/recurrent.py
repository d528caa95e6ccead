"""LSTM and GRU: the hidden axis couples all gate blocks of the weights and the next layer's input."""

from __future__ import annotations

import math

from within.core.graph.coupling import Coupling
from within.core.graph.labels import Component
from within.core.graph.operator import Operator, shape_of
from within.core.graph.rules.table import ShapeOf, rule

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def recurrent_macs(op: Operator, shape: ShapeOf, convention: str) -> int:
    """For each step, every weight matrix once."""
    source = shape(op["input"])
    steps = math.prod(source[:-1])
    return steps * sum(math.prod(shape(node)) for node in op["params"] if len(shape_of(node)) == 2)


@rule("lstm", "gru", "rnn_tanh", "rnn_relu", macs=recurrent_macs, transient="derived")
def recurrent(coupling: Coupling, op: Operator) -> None:
    """Layers of gates stacked in rows: W_ih (gates x hidden, input), W_hh (gates x hidden, hidden), biases."""
    gates, per_layer = GATES[op.kind], 4 if op["has_biases"] else 2
    projected = len(op["params"]) != per_layer * int(op["num_layers"])
    if op["bidirectional"] or projected or "input" not in op.arguments:
        for node in op.tensors:
            coupling.freeze(node, "bidirectional, projected or packed recurrent layer")
        return
    source = op["input"]
    last = len(shape_of(source)) - 1
    inputs = coupling.along(source, last)
    coupling.freeze(source, "batch or steps of a recurrent layer", range(last))
    states = op["hx"] if isinstance(op["hx"], (list, tuple)) else [op["hx"]]
    hidden = None
    for layer in range(int(op["num_layers"])):
        weights = op["params"][layer * per_layer : (layer + 1) * per_layer]
        rows = coupling.along(weights[0], 0)
        assert rows is not None
        blocks = rows.reshape(gates, -1)
        coupling.sets.union(blocks, blocks[:1])
        hidden = blocks[0]
        for node in weights[1:]:
            own = coupling.along(node, 0)
            assert own is not None
            coupling.sets.union(own.reshape(gates, -1), blocks)
        coupling.unite(coupling.along(weights[1], 1), hidden, "hidden state")
        coupling.unite(inputs, coupling.along(weights[0], 1), "input features of the recurrent layer are fixed")
        coupling.source(hidden)
        inputs = hidden
    for state in states:
        coupling.freeze(state, "layers or batch of an initial state", [0, 1])
        coupling.unite(coupling.along(state, 2), hidden, "an initial state of fixed width")
    assert hidden is not None
    coupling.put(op, [Component((last,), hidden)], 0)
    for output in range(1, len(op.shapes)):
        coupling.put(op, [Component((2,), hidden)], output)
