"""TA-GATES for cells with an operation on each edge: the encoding imitates a training of the cell, in several steps.

    step t:  X_t, M_t = GATES of the cell with the edges' operation embeddings E_t             forward
             B_t, N_t = GATES of the transposed cell from v(X_t[output]) at the output         backward
             E_{t+1} = E_t + 0.1 P[op] u(E_t, M_t, N_t)                                       update

M and N are the messages of the last layer on each edge, u and v perceptrons, P is one for operations with parameters
and zero for others. The embedding is that of the output node after the last step. E_t and M_t reach u without gradient.
Ning et al.: TA-GATES: An Encoding Scheme for Neural Network Architectures, NeurIPS 2022; GATES++, TPAMI 2023.

Symmetry breaking: operations in equal places get equal embeddings, unlike weights in a training. The published ways are
noise of deviation 0.1 on E_0, here with `noise`, in training alone so that scores repeat; and zero-shot measurements of
each operation's parameters in its network, appended to E or added to it, which need the network and are not here.
Embeddings after every step, for scores at each time of a training, are `each_step`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from within.core.errors import WithinError


class TaGatesEdgeEncoder(nn.Module):
    """See the module.

    Arguments:
        edges: from and to of each gene's edge, each leading to a higher node; node 0 is the input, the last the output.
        operations: values of a gene, `none` first.
        parametrised: values whose operations have parameters.
        time_steps: forward passes; with one, this is plain GATES.
        operation_width, node_width, start_width: of embeddings, of information at the input, of the first layer.
        widths, backward_widths: of the layers; as many as edges on the longest path, or more.
        conversion_widths, update_widths: of the perceptrons v and u.
        update_scale: of a step.
        skip: a value through which information passes unchanged, with a gate of one; None learns its gate.
        noise: deviation of noise on the operations' embeddings in training.

    Raises:
        WithinError: for less than one step.
    """

    def __init__(
        self,
        edges: Sequence[tuple[int, int]],
        operations: int,
        parametrised: Sequence[int],
        *,
        time_steps: int = 2,
        operation_width: int = 48,
        node_width: int = 48,
        start_width: int = 96,
        widths: Sequence[int] = (128,) * 3,
        backward_widths: Sequence[int] = (128,) * 3,
        conversion_widths: Sequence[int] = (128, 128),
        update_widths: Sequence[int] = (128,),
        update_scale: float = 0.1,
        skip: int | None = None,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        if time_steps < 1:
            raise WithinError(f"{time_steps} time steps", todo="give one or more")
        self.nodes = max(after for _, after in edges) + 1
        self.time_steps, self.update_scale, self.skip, self.noise = time_steps, update_scale, skip, noise
        self.embedding_width, self.conversion_width = widths[-1], conversion_widths[-1]
        self.operations = nn.Embedding(operations, operation_width)
        self.input = nn.Parameter(torch.randn(node_width))
        self.start = nn.Linear(node_width, start_width)
        self.transforms, self.gates = _flow(start_width, widths, operation_width)
        if time_steps > 1:
            self.conversion = perceptron((widths[-1], *conversion_widths))
            self.backward_transforms, self.backward_gates = _flow(
                conversion_widths[-1], backward_widths, operation_width
            )
            self.update = perceptron(
                (operation_width + widths[-1] + backward_widths[-1], *update_widths, operation_width)
            )
        begins, ends = torch.tensor(edges).T
        has_parameters = torch.zeros(operations).index_fill(0, torch.tensor(parametrised, dtype=torch.int64), 1)
        self.register_buffer("begins", begins, persistent=False)
        self.register_buffer("ends", ends, persistent=False)
        self.register_buffer("has_parameters", has_parameters, persistent=False)

    begins: Tensor
    ends: Tensor
    has_parameters: Tensor

    def forward(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "batch width"]:
        """Returns an embedding of each, after the last step."""
        return self._steps(architectures)[-1]

    def each_step(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "steps batch width"]:
        """Returns an embedding of each after every step."""
        return torch.stack(self._steps(architectures))

    def _steps(self, architectures: Tensor) -> list[Tensor]:
        embedded = self.operations.weight  # of operations; as soon as they differ, of edges
        if self.training and self.noise:
            embedded = self.operations(architectures)
            embedded = embedded + self.noise * torch.randn_like(embedded)
        begun = self.start(torch.stack([self.input, torch.zeros_like(self.input)]))[:, None, None]
        nothing = begun.new_zeros(1, 1, self.conversion_width)
        found = []
        for step in range(self.time_steps):
            output, messages = self._passed(begun[0], begun[1], architectures, embedded, backward=False)
            found.append(output)
            if step < self.time_steps - 1:
                from_output = self.conversion(output)[:, None]
                _, back = self._passed(from_output, nothing, architectures, embedded, backward=True)
                embedded = embedded if embedded.ndim == 3 else F.embedding(architectures, embedded)
                seen = torch.cat([embedded.detach(), messages.detach(), back], dim=2)
                changing = F.embedding(architectures, self.has_parameters[:, None])
                embedded = embedded + self.update_scale * changing * self.update(seen)
        return found

    def _passed(
        self, source: Tensor, inner: Tensor, architectures: Tensor, embedded: Tensor, *, backward: bool
    ) -> tuple[Tensor, Tensor]:
        """Returns what the last layer leaves at the node that information ends at, and its message on each edge.

        The source alone keeps what it had, which on the way forward is the same for all cells; the last node sends
        nothing.
        """
        transforms, gates = (
            (self.backward_transforms, self.backward_gates) if backward else (self.transforms, self.gates)
        )
        origins, targets = (self.ends, self.begins) if backward else (self.begins, self.ends)
        into = F.one_hot(targets, self.nodes).T.to(source.dtype)
        senders = origins % (self.nodes - 1)  # on the way back the last node is the source, and stands first
        count, carries = len(architectures), (architectures != 0).to(source.dtype)[:, :, None]
        inner = inner.expand(-1, self.nodes - 2, -1)
        for number, (transform, gate) in enumerate(zip(transforms, gates, strict=True)):
            source, inner = transform(source), transform(inner)
            sent = torch.cat([source.expand(count, -1, -1), inner.expand(count, -1, -1)], dim=1)
            opening = torch.sigmoid(gate(embedded))
            opening = carries * (opening if embedded.ndim == 3 else F.embedding(architectures, opening))
            if self.skip is not None:
                opening = opening.masked_fill((architectures == self.skip)[:, :, None], 1)
            messages = opening * sent.index_select(1, senders)
            if number == len(transforms) - 1:
                return into[0 if backward else -1] @ messages, messages
            source, inner = F.relu(source), F.relu(into[1:-1] @ messages)
        raise AssertionError("there is no layer")


def _flow(start: int, widths: Sequence[int], operation_width: int) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Returns the linear maps of the layers and of their gates."""
    transforms = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise((start, *widths)))
    for transform in transforms:
        bound = transform.out_features**-0.5  # type: ignore[operator]
        nn.init.uniform_(transform.weight, -bound, bound)  # type: ignore[arg-type]
    return transforms, nn.ModuleList(nn.Linear(operation_width, width) for width in widths)


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Returns linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
