"""Encoders that read an architecture as a sequence: a perceptron on the numbers, and an LSTM on tokens.

The widths of the published perceptron are not public; 200, 200, 200 here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn


class MlpEncoder(nn.Module):
    """A perceptron on the genes as plain numbers.

    Arguments:
        genes: of an architecture.
        widths: of the layers, each followed by ReLU.
    """

    def __init__(self, genes: int, widths: Sequence[int] = (200, 200, 200)) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise((genes, *widths)))
        self.embedding_width = widths[-1]

    def forward(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "batch width"]:
        """Returns an embedding of each."""
        x = architectures.to(self.layers[0].weight.dtype)  # type: ignore[arg-type]
        for layer in self.layers:
            x = F.relu(layer(x))
        return x


class LstmEncoder(nn.Module):
    """An LSTM over the genes as tokens; the embedding is its last state.

    Architectures that begin alike are read once up to where they part, if they can be numbered in 63 bits.

    Arguments:
        values: number of values of each gene; genes with equally many share a table of tokens.
        width: of tokens and states.
    """

    def __init__(self, values: Sequence[int], width: int = 100) -> None:
        super().__init__()
        self.values = tuple(values)
        self.tokens = nn.ModuleDict({str(count): nn.Embedding(count, width) for count in sorted(set(values))})
        self.recurrent = nn.LSTM(width, width, batch_first=True)
        self.embedding_width = width

    def forward(self, architectures: Int64[Tensor, "batch genes"]) -> Float[Tensor, "batch width"]:
        """Returns an embedding of each."""
        if math.prod(self.values) < 2**63:
            return self._read_once(architectures)
        columns = [self.tokens[str(count)](architectures[:, at]) for at, count in enumerate(self.values)]
        _, (state, _) = self.recurrent(torch.stack(columns, dim=1))
        return state[0]

    def _read_once(self, architectures: Tensor) -> Tensor:
        weights = [math.prod(self.values[at + 1 :]) for at in range(len(self.values))]
        numbers, back = (architectures * architectures.new_tensor(weights)).sum(1).unique(return_inverse=True)
        beginnings = [numbers]  # of every length, the longest first; ascending
        for count in self.values[:0:-1]:
            beginnings.append((beginnings[-1] // count).unique_consecutive())
        layer = self.recurrent
        hidden = cast(Tensor, layer.weight_hh_l0)
        bias = cast(Tensor, layer.bias_ih_l0) + cast(Tensor, layer.bias_hh_l0)
        tables = {
            count: F.linear(self.tokens[str(count)].weight, layer.weight_ih_l0, bias)  # type: ignore[arg-type]
            for count in set(self.values)
        }
        before: Tensor | None = None
        state = cell = numbers  # of the beginnings one shorter
        for count, beginning in zip(self.values, reversed(beginnings), strict=True):
            gates = F.embedding(beginning % count, tables[count])
            if before is None:
                admit, _, new, show = gates.chunk(4, dim=1)
                cell = torch.sigmoid(admit) * torch.tanh(new)
            else:
                parent = torch.searchsorted(before, beginning // count)
                gates = gates + F.linear(state, hidden).index_select(0, parent)
                admit, forget, new, show = gates.chunk(4, dim=1)
                cell = torch.sigmoid(forget) * cell.index_select(0, parent) + torch.sigmoid(admit) * torch.tanh(new)
            state, before = torch.sigmoid(show) * torch.tanh(cell), beginning
        return state.index_select(0, back)
