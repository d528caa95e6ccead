"""Run a traced graph so that each tensor is freed right after its last use, and count what is alive meanwhile.

The executor is `torch.fx.Interpreter` on the graph of `torch.export`: a model's forward keeps its local variables to
the end of the function, the interpreter drops a value after its last user.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram

from within.core.device.inference import evaluating
from within.core.device.memory.reading import MemoryReading
from within.core.device.memory.storage import StorageCounter, StorageTrace, _noted


class GraphExecutor(fx.Interpreter):
    """Runs a graph module and frees each value after its last use.

    Arguments:
        module: a graph module whose parameters are attributes, such as `ExportedProgram.module()`.
        counter: a storage counter that is told the name of each node before it runs.
        fake: when given, parameters are replaced by fake tensors of this mode, and nothing is computed.
    """

    def __init__(
        self, module: fx.GraphModule, *, counter: StorageCounter | None = None, fake: FakeTensorMode | None = None
    ) -> None:
        super().__init__(module, garbage_collect_values=True)
        for node in module.graph.nodes:  # the interpreter keeps values that nobody reads: results of copy_ are aliases
            if not node.users and node.op != "output":
                self.user_to_last_uses.setdefault(node, []).append(node)
        self._counter, self._fake = counter, fake

    def run_node(self, n: fx.Node) -> Any:
        if self._counter is not None and n.op not in ("placeholder", "get_attr", "output"):
            self._counter.begin(n.name)
        return super().run_node(n)

    def fetch_attr(self, target: str) -> Any:
        value = super().fetch_attr(target)
        return self._fake.from_tensor(value) if self._fake is not None and isinstance(value, Tensor) else value


def graph_module(model: nn.Module | ExportedProgram, inputs: Sequence[Tensor]) -> fx.GraphModule:
    """Returns the traced graph of a model with its parameters as attributes; a graph module is returned as it is.

    A plain module is exported in eval mode at the shapes of `inputs` (non-strict `torch.export`).
    """
    if isinstance(model, fx.GraphModule):
        return model
    if not isinstance(model, ExportedProgram):
        with evaluating(model):
            model = torch.export.export(model, tuple(inputs), strict=False)
    module = model.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    return module


def trace_graph(model: nn.Module | ExportedProgram, inputs: Sequence[Tensor], *, compute: bool = False) -> StorageTrace:
    """Counts the storages of the graph executor.

    Arguments:
        model: a module (exported first), an exported program or a graph module.
        inputs: the input; only shapes, types and memory formats matter unless `compute`.
        compute: run on real tensors.

    Returns:
        the trace; one timeline entry a graph node, with the most bytes alive while the node ran.
    """
    module = graph_module(model, inputs)
    with torch.no_grad():
        if compute:
            counter = StorageCounter([*inputs, *_constants(module)])
            with counter:
                GraphExecutor(module, counter=counter).run(*inputs)
            return counter.trace()
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        fake_inputs = [fake.from_tensor(value) for value in inputs]
        constants = [fake.from_tensor(value) for value in _constants(module)]
        counter = StorageCounter([*fake_inputs, *constants])
        with fake, counter:
            GraphExecutor(module, counter=counter, fake=fake).run(*fake_inputs)
        return counter.trace()


def live_graph_measured(
    model: nn.Module | ExportedProgram, inputs: Sequence[Tensor], *, compute: bool = False
) -> MemoryReading:
    """Measures `live_graph`: the tensors alive at once when each is freed right after its last use.

    See `trace_graph` for the arguments.
    """
    trace = trace_graph(model, inputs, compute=compute)
    note = "" if compute else "nothing computed (fake tensors)"
    return MemoryReading("storage counter: graph", "live_graph", trace.peak, _noted(trace, note))


def _constants(module: fx.GraphModule) -> list[Tensor]:
    """Returns everything that the graph fetches: parameters, buffers and lifted constants."""
    interpreter = fx.Interpreter(module)
    fetched = [interpreter.fetch_attr(str(node.target)) for node in module.graph.nodes if node.op == "get_attr"]
    return [value for value in fetched if isinstance(value, Tensor)]
