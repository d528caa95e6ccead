"""Writes the ONNX model of one kernel, node by node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from within.core.device.kernels.kernel import Kernel
from within.core.graph.operator import Shape

BLOCKED = "com.microsoft.nchwc"
OPSET = 20


@dataclass(frozen=True)
class MicroModel:
    """A serialised model of one kernel.

    Attributes:
        onnx: the model.
        activations: names and shapes of the inputs that stand for activations, the first being the main one.
        weights: names and shapes of the inputs that stand for weights.
        output: name and shape of the (first) output.
        adds_to: the activation that the kernel adds its result to, in place, if any.
        optimise: whether ONNX Runtime's graph optimiser has to run.
    """

    onnx: bytes
    activations: tuple[tuple[str, Shape], ...]
    weights: tuple[tuple[str, Shape], ...]
    outputs: tuple[tuple[str, Shape], ...]
    adds_to: str | None
    optimise: bool


@dataclass
class MicroWriter:
    """Collects nodes; `input0`, `input1`, ... are the activations, `output0`, ... the results."""

    kernel: Kernel
    nodes: list[Any] = field(default_factory=list)
    initialisers: list[Any] = field(default_factory=list)
    weights: list[tuple[str, Shape]] = field(default_factory=list)

    @property
    def blocked(self) -> bool:
        """Whether the kernel works on blocks of channels."""
        return self.kernel.layout == "blocked"

    def node(
        self, kind: str, inputs: list[str], outputs: list[str], *, blocked: bool = False, **attributes: Any
    ) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=BLOCKED if blocked else "", **attributes))

    def constant(self, value: Any) -> str:
        """Adds a constant and returns its name."""
        from onnx import numpy_helper

        name = f"constant{len(self.initialisers)}"
        self.initialisers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, shape: Shape) -> str:
        """Adds a weight: an input of the blocked kernels, which take it as it comes, a constant of the others."""
        if self.blocked:
            self.weights.append((f"weight{len(self.weights)}", shape))
            return self.weights[-1][0]
        return self.constant(np.full(shape, 0.01, np.float32))

    def finish(self) -> MicroModel:
        """Returns the model."""
        from onnx import TensorProto, helper

        def declare(name: str, shape: Shape) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        activations = tuple((f"input{position}", shape) for position, shape in enumerate(self._inputs()))
        outputs = tuple((f"output{position}", shape) for position, shape in enumerate(self.kernel.outputs))
        graph = helper.make_graph(
            self.nodes,
            "kernel",
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in (*activations, *self.weights)
            ],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
            self.initialisers,
        )
        opsets = [
            helper.make_opsetid("", OPSET),
            helper.make_opsetid(BLOCKED, 1),
            helper.make_opsetid("com.microsoft", 1),
        ]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        adds = self.kernel.setting("add") and self.blocked
        return MicroModel(
            model.SerializeToString(),
            activations,
            tuple(self.weights),
            outputs,
            activations[-1][0] if adds else None,
            not self.blocked and self.kernel.kind != "session",
        )

    def _inputs(self) -> tuple[Shape, ...]:
        added = self.kernel.outputs[:1] if self.kernel.setting("add") else ()
        return (*self.kernel.inputs, *added)
