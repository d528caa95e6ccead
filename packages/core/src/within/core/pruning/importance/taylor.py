"""Gate-Taylor: the first-order change of the loss when an atom's activation is switched off.

    s_a = mean over batches of ( sum of z dE/dz over the atom )^2 at z = 1,

where z multiplies the atom's channel after its batch normalisation (after its producer where there is none). The gate's
gradient is the sum of activation times gradient, which equals gamma dE/dgamma + beta dE/dbeta of the normalisation.
Where several layers produce the atom (a residual stage) their gates are summed and divided by their number.
Molchanov, Mallya, Tyree, Frosio, Kautz: Importance Estimation for Neural Network Pruning, CVPR 2019 (methods 22, 31).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from within.core.device.inference import positional
from within.core.errors import WithinError
from within.core.graph import ChannelGroup, Graph, Member
from within.core.graph.producers import producing_values
from within.core.progress import track

Loss = Callable[[Any, Any], Tensor]


def taylor(
    graph: Graph, *, data: Iterable[Any] | None = None, loss: Loss | None = None, **_: Any
) -> dict[str, NDArray[np.float64]]:
    """Returns the gate-Taylor score of every atom.

    Arguments:
        graph: the traced model.
        data: batches; each is `(inputs, target)` with `inputs` a tensor or a tuple of tensors of the traced shapes.
        loss: called as `loss(output, target)`, returns a scalar.

    Raises:
        WithinError: without data and loss, or when data, loss or gradients are not finite.
    """
    if data is None or loss is None:
        raise WithinError(
            "The Taylor importance needs data and a loss", where="importance='taylor'", todo="pass data= and loss="
        )
    groups = graph.channel_groups()
    values = {group.name: producing_values(graph, group) for group in groups}
    watched = {member.tensor for members in values.values() for member in members}
    total = {group.name: np.zeros(group.size) for group in groups}
    batches = 0
    for number, (inputs, target) in enumerate(track(data, "Taylor importance")):
        gates = gate_gradients(graph, positional(inputs), target, loss, watched, where=f"batch {number}")
        for group in groups:
            total[group.name] += _atoms(group, values[group.name], gates) ** 2
        batches += 1
    if not batches:
        raise WithinError("The calibration data are empty", where="importance='taylor'")
    return {name: scores / batches for name, scores in total.items()}


def gate_gradients(
    graph: Graph, inputs: tuple[Tensor, ...], target: Any, loss: Loss, watched: set[str], *, where: str
) -> dict[str, Tensor]:
    """Returns, for each watched value, activation times gradient (the gradient of a gate at every position)."""
    for item in inputs:
        if not torch.isfinite(item).all():
            raise WithinError("The calibration data hold NaN or Inf", where=where, todo="remove that item")
    taken: dict[str, Tensor] = {}
    output = _Watching(graph, watched, taken).run(*inputs)
    value = loss(output, target)
    if not torch.isfinite(value).all():
        raise WithinError("The loss is not finite", where=where, todo="check weights, data and the loss")
    present = [(name, tensor) for name, tensor in taken.items() if tensor.requires_grad]
    gradients = torch.autograd.grad(value.sum(), [tensor for _, tensor in present], allow_unused=True)
    return {
        name: (tensor.detach() * gradient)
        for (name, tensor), gradient in zip(present, gradients, strict=True)
        if gradient is not None
    }


def _atoms(group: ChannelGroup, members: list[Member], gates: dict[str, Tensor]) -> NDArray[np.float64]:
    scores = np.zeros(group.size)
    used = 0
    for member in members:
        gate = gates.get(member.tensor)
        if gate is None:
            continue
        positions = gate.double().movedim(member.axis, 0).flatten(1).sum(1).cpu().numpy()
        here = member.atoms >= 0
        scores += np.bincount(member.atoms[here], positions[here], minlength=group.size)
        used += 1
    return scores / max(used, 1)


class _Watching(fx.Interpreter):
    """Runs the traced program with the model's own parameters and keeps the watched values for differentiation.

    In-place operators work on a copy, so that a watched value is what its producer computed.
    """

    def __init__(self, graph: Graph, watched: set[str], taken: dict[str, Tensor]) -> None:
        super().__init__(graph.program.graph_module, garbage_collect_values=False)
        self.traced, self.watched, self.taken = graph, watched, taken

    def run(self, *inputs: Tensor) -> Any:  # type: ignore[override]
        output = super().run(*self.traced.bind(inputs))
        return output[0] if isinstance(output, (tuple, list)) and len(output) == 1 else output

    def run_node(self, n: fx.Node) -> Any:
        in_place = (
            n.op == "call_function" and isinstance(n.target, torch._ops.OpOverload) and n.target._schema.is_mutable
        )
        if in_place and isinstance(n.args[0], fx.Node):
            self.env[n.args[0]] = self.env[n.args[0]].clone()
        result = super().run_node(n)
        if in_place and isinstance(n.args[0], fx.Node):
            self.env[n.args[0]] = result
        if n.name in self.watched and isinstance(result, Tensor):
            if not result.requires_grad:
                result = result.detach().requires_grad_()
            self.taken[n.name] = result
        return result
