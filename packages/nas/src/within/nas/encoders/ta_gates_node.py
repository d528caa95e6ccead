"""TA-GATES for cells with operations on vertices: the encoding imitates a training of the cell, in several steps.

    step t:  X_t = GATES of the cell with the vertices' operation embeddings E_t               forward
             B_t = GATES of the transposed cell from v(X_t[output]) at the output              backward
             E_{t+1} = E_t + 0.1 P [op] u(E_t, X_t, B_t)                                       update

u and v are perceptrons; P is one for operations with parameters and zero for others, the input and the output. E_t and
X_t reach u without gradient. Ning et al.: TA-GATES: An Encoding Scheme for Neural Network Architectures, NeurIPS 2022;
GATES++, TPAMI 2023. See `ta_gates_edge` for symmetry breaking, and what of it is not here. The published settings for
NAS-Bench-101 take three steps and update every vertex, input and output too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from within.core.errors import WithinError
from within.nas.encoders.gates_node import GatesNodeEncoder, flow, make_flow
from within.nas.encoders.ta_gates_edge import perceptron


class TaGatesNodeEncoder(nn.Module):
    """See the module.

    Arguments:
        parametrised: values whose operations have parameters.
        vertices, operations: as of `GatesNodeEncoder`.
        time_steps: forward passes; with one, this is plain GATES.
        operation_width, node_width, start_width: of embeddings, of information at the vertices, of the first layer.
        widths, backward_widths: of the layers.
        residual: vertices at which what they had stays, counted from the output on the way back.
        self_loops, output_only: as of `GatesNodeEncoder`.
        conversion_widths, update_widths: of the perceptrons v and u.
        update_scale: of a step.
        noise: deviation of noise on the operations' embeddings in training.

    Raises:
        WithinError: for less than one step.
    """

    def __init__(
        self,
        vertices: int = 7,
        operations: int = 4,
        parametrised: Sequence[int] = (0, 1),
        *,
        time_steps: int = 2,
        operation_width: int = 48,
        node_width: int = 48,
        start_width: int = 96,
        widths: Sequence[int] = (128,) * 5,
        backward_widths: Sequence[int] = (128,) * 5,
        residual: int | None = 1,
        self_loops: bool = True,
        output_only: bool = False,
        conversion_widths: Sequence[int] = (128, 128),
        update_widths: Sequence[int] = (128,),
        update_scale: float = 0.1,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        if time_steps < 1:
            raise WithinError(f"{time_steps} time steps", todo="give one or more")
        self.plain = GatesNodeEncoder(
            vertices,
            operations,
            operation_width=operation_width,
            node_width=node_width,
            start_width=start_width,
            widths=widths,
            residual=residual,
            self_loops=self_loops,
            output_only=output_only,
        )
        self.time_steps, self.update_scale, self.noise = time_steps, update_scale, noise
        self.residual = None if residual is None else -residual
        self.embedding_width = widths[-1]
        if time_steps > 1:
            self.conversion = perceptron((widths[-1], *conversion_widths))
            self.transforms, self.gates, self.biases = make_flow(
                conversion_widths[-1], backward_widths, operation_width
            )
            self.update = perceptron(
                (operation_width + widths[-1] + backward_widths[-1], *update_widths, operation_width)
            )
        has_parameters = torch.zeros(operations).index_fill(0, torch.tensor(parametrised, dtype=torch.int64), 1)
        self.register_buffer("has_parameters", has_parameters, persistent=False)

    has_parameters: Tensor

    def forward(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "batch width"]:
        """Returns an embedding of each, after the last step."""
        return self._steps(architectures)[-1]

    def each_step(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "steps batch width"]:
        """Returns an embedding of each after every step."""
        return torch.stack(self._steps(architectures))

    def _steps(self, architectures: Tensor) -> list[Tensor]:
        links, kinds = self.plain.graph(architectures)
        embedded = self.plain.embedded(kinds)
        if self.training and self.noise:
            embedded = embedded + self.noise * torch.randn_like(embedded)
        changing = F.pad(self.has_parameters[kinds], (1, 1))[:, :, None]
        found: list[Tensor] = []
        for step in range(self.time_steps):
            x = self.plain.passed(links, embedded)
            found.append(self.plain.read_out(x, kinds))
            if step < self.time_steps - 1:
                from_output = F.pad(self.conversion(x[:, -1:]), (0, 0, x.shape[1] - 1, 0))
                back = flow(
                    from_output,
                    links.transpose(1, 2),
                    embedded,
                    self.transforms,
                    self.gates,
                    self.biases,
                    self.residual,
                )
                seen = torch.cat([embedded.detach(), x.detach(), back], dim=2)
                embedded = embedded + self.update_scale * changing * self.update(seen)
        return found
