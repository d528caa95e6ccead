"""Second moments of what every layer reads, from calibration data: the facts that reconstruction and ranking need.

For a layer y = W x with x the input patch (channels x kernel positions), everything a least-squares fit of W on a
subset of the channels needs is E[x x^T] and E[x].
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from within.core.device.inference import positional
from within.core.errors import WithinError
from within.core.graph import Graph, Operator
from within.core.graph.operator import integer
from within.core.progress import track

SAMPLES = 4096  # input patches of one layer taken from one batch


@dataclass
class Moments:
    """Sums over samples of a layer's input patches.

    Attributes:
        outer: sum of x x^T, (features, features), float64; features are ordered (channel, kernel position).
        total: sum of x, (features,).
        count: number of samples.
    """

    outer: Tensor
    total: Tensor
    count: int

    @property
    def mean(self) -> Tensor:
        """E[x]."""
        return self.total / self.count

    @property
    def second_moment(self) -> Tensor:
        """E[x x^T]."""
        return self.outer / self.count

    @property
    def covariance(self) -> Tensor:
        """E[x x^T] - E[x] E[x]^T."""
        return self.second_moment - torch.outer(self.mean, self.mean)


def linear_operators(graph: Graph) -> list[Operator]:
    """Returns the convolutions and linear layers whose weights are parameters and mix all input channels."""
    found = []
    for op in graph.operators:
        if op.kind not in ("conv1d", "conv2d", "conv3d", "linear", "conv_transpose2d"):
            continue
        if op["weight"].name in graph.parameters and integer(op.get("groups", 1)) == 1:
            found.append(op)
    return found


def input_moments(graph: Graph, data: Iterable[Any], *, seed: int = 0) -> dict[str, Moments]:
    """Returns the moments of every linear operator's input, by name of its weight; calls of a shared layer add up.

    Arguments:
        graph: a graph traced at the shape of one batch.
        data: batches of inputs (a tensor or a tuple of tensors each).

    Raises:
        WithinError: when the data are empty, or hold NaN or Inf.
    """
    wanted = {op.name: op for op in linear_operators(graph) if op.kind != "conv1d" and op.kind != "conv3d"}
    moments: dict[str, Moments] = {}
    generator = torch.Generator().manual_seed(seed)
    count = 0
    for number, batch in enumerate(track(data, "input statistics")):
        inputs = positional(batch)
        for item in inputs:
            if not torch.isfinite(item).all():
                raise WithinError(
                    "The calibration data hold NaN or Inf", where=f"batch {number}", todo="remove that item"
                )
        _Collecting(graph, wanted, moments, generator).run(*inputs)
        count += 1
    if not count:
        raise WithinError("The calibration data are empty", where="input_moments")
    return moments


class _Collecting(fx.Interpreter):
    """Runs the traced program with the model's parameters, taking samples before every linear operator."""

    def __init__(
        self, graph: Graph, wanted: dict[str, Operator], moments: dict[str, Moments], generator: torch.Generator
    ) -> None:
        super().__init__(graph.program.graph_module)
        self.traced, self.wanted, self.moments, self.generator = graph, wanted, moments, generator

    def run(self, *inputs: Tensor) -> Any:  # type: ignore[override]
        with torch.no_grad():
            return super().run(*self.traced.bind(inputs))

    def run_node(self, n: fx.Node) -> Any:
        op = self.wanted.get(n.name)
        if op is not None:
            samples = input_samples(op, self.env[op["input"]], self.env[op["weight"]].shape, self.generator)
            name = self.traced.parameters[op["weight"].name]
            found = self.moments.get(name)
            if found is None:
                features = samples.shape[1]
                found = Moments(samples.new_zeros(features, features), samples.new_zeros(features), 0)
                self.moments[name] = found
            found.outer += samples.T @ samples
            found.total += samples.sum(0)
            found.count += len(samples)
        return super().run_node(n)


def input_samples(op: Operator, source: Tensor, kernel: torch.Size, generator: torch.Generator) -> Tensor:
    """Returns random input patches of a layer, (samples, features), float64.

    A transposed convolution reads single positions, a linear layer rows, a convolution its padded window.
    """
    if op.kind == "linear":
        rows = source.reshape(-1, source.shape[-1])
        return rows[_some(len(rows), generator)].double()
    if op.kind == "conv_transpose2d":
        rows = source.movedim(1, -1).reshape(-1, source.shape[1])
        return rows[_some(len(rows), generator)].double()
    padding = op["padding"]
    if isinstance(padding, str):
        padding = (
            [0, 0]
            if padding == "valid"
            else [dilation * (size - 1) // 2 for size, dilation in zip(kernel[2:], op["dilation"])]
        )
    padding = [integer(value) for value in padding] * (2 if len(padding) == 1 else 1)
    stride, dilation = ([integer(value) for value in op[name]] for name in ("stride", "dilation"))
    padded = F.pad(source, (padding[1], padding[1], padding[0], padding[0]))
    batch, _, height, width = padded.shape
    rows_out = (height - dilation[0] * (kernel[2] - 1) - 1) // stride[0] + 1
    columns_out = (width - dilation[1] * (kernel[3] - 1) - 1) // stride[1] + 1
    chosen = _some(batch * rows_out * columns_out, generator)
    image, rest = chosen // (rows_out * columns_out), chosen % (rows_out * columns_out)
    row, column = rest // columns_out * stride[0], rest % columns_out * stride[1]
    down = (torch.arange(kernel[2]) * dilation[0]).repeat_interleave(kernel[3])
    right = (torch.arange(kernel[3]) * dilation[1]).repeat(kernel[2])
    taken = padded[image[:, None], :, row[:, None] + down, column[:, None] + right]  # (samples, positions, channels)
    return taken.transpose(1, 2).reshape(len(chosen), -1).double()


def _some(count: int, generator: torch.Generator) -> Tensor:
    if count <= SAMPLES:
        return torch.arange(count)
    return torch.randint(count, (SAMPLES,), generator=generator)
