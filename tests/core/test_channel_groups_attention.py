"""Index maps of attention and recurrent layers, against positions worked out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.core.index_maps import maps, traced
from torch import nn


def attention(m, x: torch.Tensor) -> torch.Tensor:
    """Two heads of width three; the rows of qkv are (query, key, value) x head x dimension."""
    b, n, _ = x.shape
    query, key, value = m.qkv(x).reshape(b, n, 3, 2, 3).permute(2, 0, 3, 1, 4).unbind(0)
    mixed = (query @ key.transpose(-2, -1)).softmax(-1) @ value
    return m.proj(mixed.transpose(1, 2).reshape(b, n, 6))


def chunked_attention(m, x: torch.Tensor) -> torch.Tensor:
    """As `attention`, but query, key and value are taken apart before they are reshaped."""
    b, n, _ = x.shape
    query, key, value = (part.reshape(b, n, 2, 3).transpose(1, 2) for part in m.qkv(x).chunk(3, dim=-1))
    mixed = (query @ key.transpose(-2, -1)).softmax(-1) @ value
    return m.proj(mixed.transpose(1, 2).reshape(b, n, 6))


def test_attention_head_dimensions():
    """Query and key lose the same dimension of every head, value its own, from the fused projection."""
    graph = traced(chunked_attention, torch.rand(1, 5, 4), qkv=nn.Linear(4, 18), proj=nn.Linear(6, 4))
    found = maps(graph)
    none = [-1] * 6
    query_key = found["qkv.weight[0:12]"]
    assert query_key[("qkv.weight", 0)] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, *none]
    value = found["qkv.weight[12:18]"]
    assert value[("qkv.weight", 0)] == [*none, *none, 0, 1, 2, 0, 1, 2]
    assert value[("proj.weight", 1)] == [0, 1, 2, 0, 1, 2]
    assert ("proj.weight", 1) not in query_key


def test_one_reshape_of_query_key_and_value_ties_all_three():
    """(3, heads, dimension) is one tensor, so the three must have the same width."""
    graph = traced(attention, torch.rand(1, 5, 4), qkv=nn.Linear(4, 18), proj=nn.Linear(6, 4))
    (group,) = maps(graph).values()
    assert group[("qkv.weight", 0)] == [0, 1, 2] * 6
    assert group[("proj.weight", 1)] == [0, 1, 2] * 2


def test_attention_whole_heads():
    graph = traced(attention, torch.rand(1, 5, 4), qkv=nn.Linear(4, 18), proj=nn.Linear(6, 4), heads="whole")
    (group,) = maps(graph).values()
    assert group[("qkv.weight", 0)] == [0, 0, 0, 1, 1, 1] * 3
    assert group[("proj.weight", 1)] == [0, 0, 0, 1, 1, 1]


def test_scaled_dot_product_attention_with_a_mask_by_head():
    """Whole heads: the bias table of the heads goes with them, or the mask no longer fits."""

    def forward(m, x):
        b, n, _ = x.shape
        query, key, value = m.qkv(x).reshape(b, n, 3, 2, 3).permute(2, 0, 3, 1, 4).unbind(0)
        mask = m.bias(torch.zeros(n, n, dtype=torch.long)).permute(2, 0, 1).unsqueeze(0)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return m.proj(mixed.transpose(1, 2).reshape(b, n, 6))

    modules = {"qkv": nn.Linear(4, 18), "proj": nn.Linear(6, 4), "bias": nn.Embedding(1, 2)}
    whole = maps(traced(forward, torch.rand(1, 5, 4), heads="whole", **modules))
    (group,) = whole.values()
    assert group[("bias.weight", 1)] == [0, 1]
    assert group[("qkv.weight", 0)] == [0, 0, 0, 1, 1, 1] * 3
    by_dimension = maps(traced(forward, torch.rand(1, 5, 4), **modules))
    assert by_dimension["qkv.weight"][("qkv.weight", 0)] == [0, 1, 2] * 6


def test_grouped_query_attention():
    """One key-value head serves two query heads: whole heads go as such a family."""

    def forward(m, x):
        b, n, _ = x.shape
        query = m.q(x).view(b, n, 4, 2).transpose(1, 2)
        key = m.k(x).view(b, n, 2, 2).transpose(1, 2).repeat_interleave(2, dim=1)
        value = m.v(x).view(b, n, 2, 2).transpose(1, 2).repeat_interleave(2, dim=1)
        mixed = (query @ key.transpose(-2, -1)).softmax(-1) @ value
        return m.proj(mixed.transpose(1, 2).reshape(b, n, 8))

    modules = {"q": nn.Linear(4, 8), "k": nn.Linear(4, 4), "v": nn.Linear(4, 4), "proj": nn.Linear(8, 4)}
    (group,) = maps(traced(forward, torch.rand(1, 5, 4), heads="whole", **modules)).values()
    assert group[("q.weight", 0)] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert group[("k.weight", 0)] == group[("v.weight", 0)] == [0, 0, 1, 1]
    assert group[("proj.weight", 1)] == [0, 0, 0, 0, 1, 1, 1, 1]
    found = maps(traced(forward, torch.rand(1, 5, 4), **modules))
    assert found["q.weight"][("q.weight", 0)] == [0, 1] * 4
    assert found["q.weight"][("k.weight", 0)] == [0, 1] * 2
    assert found["v.weight"][("proj.weight", 1)] == [0, 1] * 4


@pytest.mark.parametrize("itself", [True, False])
def test_multihead_attention_module(itself: bool):
    """torch's own module keeps query, key and value in one parameter; of one tensor it projects all three at once."""

    def forward(m, x):
        y = m.a(x)
        return m.out(m.attention(y, y, y if itself else y + 0, need_weights=False)[0])

    modules = {"attention": nn.MultiheadAttention(4, 2, batch_first=True), "a": nn.Linear(3, 4), "out": nn.Linear(4, 2)}
    found = maps(traced(forward, torch.rand(1, 5, 3), **modules))
    rows, columns = ("attention.in_proj_weight", 0), ("attention.in_proj_weight", 1)
    assert found["a.weight"][columns] == [0, 1, 2, 3]
    assert found["attention.out_proj.weight"][("out.weight", 1)] == [0, 1, 2, 3]
    mixed = next(group for group in found.values() if ("attention.out_proj.weight", 1) in group)
    assert mixed[("attention.out_proj.weight", 1)] == [0, 1, 0, 1]
    assert mixed[rows] == ([0, 1] * 6 if itself else [-1] * 8 + [0, 1, 0, 1])
    if not itself:
        assert found["attention.in_proj_weight[0:8]"][rows] == [0, 1] * 4 + [-1] * 4


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_gates(kind: type[nn.Module], gates: int):
    """Every gate block of both layers and the next layer's input lose the same hidden unit."""
    graph = traced(
        lambda m, x: m.out(m.rnn(m.a(x))[0]),
        torch.rand(1, 5, 3),
        a=nn.Linear(3, 2),
        rnn=kind(2, 3, num_layers=2, batch_first=True),
        out=nn.Linear(3, 2),
    )
    found = maps(graph)
    assert found["a.weight"][("rnn.weight_ih_l0", 1)] == [0, 1]
    first, second = found["rnn.weight_ih_l0"], found["rnn.weight_ih_l1"]
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        assert first[(f"rnn.{name}", 0)] == [0, 1, 2] * gates
    assert first[("rnn.weight_hh_l0", 1)] == first[("rnn.weight_ih_l1", 1)] == [0, 1, 2]
    assert second[("rnn.weight_hh_l1", 0)] == [0, 1, 2] * gates
    assert second[("out.weight", 1)] == [0, 1, 2]


def test_bidirectional_recurrent_layer_is_left_alone_with_a_reason():
    graph = traced(
        lambda m, x: m.out(m.rnn(x)[0]), torch.rand(1, 5, 3), rnn=nn.GRU(3, 2, bidirectional=True), out=nn.Linear(4, 2)
    )
    assert not graph.channel_groups()
    assert "bidirectional" in graph.frozen["rnn.weight_ih_l0"]
