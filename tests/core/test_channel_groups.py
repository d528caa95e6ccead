"""Each index map of coupled channels, against positions worked out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.networks import Function, Residual, composed, conv, image, random_kept, seeded
from torch import nn

from within.core.errors import WithinError
from within.core.graph import Graph, trace


def maps(graph: Graph) -> dict[str, dict[tuple[str, int], list[int]]]:
    """Atoms along every parameter axis that is cut: {group: {(parameter, axis): atom or -1 of each position}}."""
    return {
        group.name: {(member.tensor, member.axis): member.atoms.tolist() for member in group.parameters}
        for group in graph.channel_groups()
    }


def traced(function, *inputs: torch.Tensor, heads: str = "dimension", grouped: str = "within", **modules) -> Graph:
    return trace(seeded(Function(function, **modules)), inputs or image(), heads=heads, grouped=grouped)


def test_identity_through_normalisation_and_activation():
    """A layer between producer and consumer that is not cut with them."""
    graph = traced(
        lambda m, x: m.b(m.slopes(m.norm(m.a(x)))),
        a=conv(3, 4),
        norm=nn.BatchNorm2d(4),
        slopes=nn.PReLU(4),
        b=conv(4, 2),
    )
    own = [0, 1, 2, 3]
    assert maps(graph) == {
        "a.weight": {
            ("a.weight", 0): own,
            ("a.bias", 0): own,
            ("norm.weight", 0): own,
            ("norm.bias", 0): own,
            ("norm.running_mean", 0): own,
            ("norm.running_var", 0): own,
            ("slopes.weight", 0): own,
            ("b.weight", 1): own,
        }
    }


def test_members_list_activations_too():
    """Peak memory and gates read activations off the group; the order must be that of the producer."""
    graph = traced(lambda m, x: m.b(F.relu(m.a(x))), a=conv(3, 4), b=conv(4, 2))
    (group,) = graph.channel_groups()
    assert {(member.tensor, member.axis) for member in group.activations} == {("conv2d", 1), ("relu", 1)}
    assert group.size == 4


def test_residual_sum_ties_both_producers():
    graph = traced(lambda m, x: m.out(m.block(m.stem(x))), stem=conv(3, 4), block=Residual(4, 3), out=conv(4, 2))
    found = maps(graph)
    assert set(found) == {"stem.weight", "block.first.conv.weight"}
    assert found["stem.weight"][("block.second.weight", 0)] == [0, 1, 2, 3]
    assert found["stem.weight"][("block.first.conv.weight", 1)] == [0, 1, 2, 3]
    assert found["stem.weight"][("out.weight", 1)] == [0, 1, 2, 3]


def test_concatenation_offsets():
    graph = traced(lambda m, x: m.out(torch.cat([m.a(x), m.b(x)], 1)), a=conv(3, 2), b=conv(3, 3), out=conv(5, 2))
    found = maps(graph)
    assert found["a.weight"][("out.weight", 1)] == [0, 1, -1, -1, -1]
    assert found["b.weight"][("out.weight", 1)] == [-1, -1, 0, 1, 2]


def test_concatenation_of_fixed_channels():
    """The image itself concatenated: its positions stay, the others move."""
    graph = traced(lambda m, x: m.out(torch.hstack([x, m.a(x)])), a=conv(3, 2), out=conv(5, 2))
    assert maps(graph)["a.weight"][("out.weight", 1)] == [-1, -1, -1, 0, 1]


@pytest.mark.parametrize("way", ["split", "tensor_split", "slice", "narrow"])
def test_unequal_split_offsets(way: str):
    """Each part of a split is a group of its own, because its sizes are."""

    def forward(m, x):
        y = m.a(x)
        if way == "split":
            first, second = y.split([2, 4], 1)
        elif way == "tensor_split":
            first, second = y.tensor_split((2,), 1)
        elif way == "slice":
            first, second = y[:, :2], y[:, -4:]
        else:
            first, second = y.narrow(1, 0, 2), y.narrow(1, 2, 4)
        return m.b(first) + m.c(second)

    found = maps(traced(forward, a=conv(3, 6), b=conv(2, 1), c=conv(4, 1)))
    assert found["a.weight[0:2]"][("a.weight", 0)] == [0, 1, -1, -1, -1, -1]
    assert found["a.weight[0:2]"][("b.weight", 1)] == [0, 1]
    assert found["a.weight[2:6]"][("a.weight", 0)] == [-1, -1, 0, 1, 2, 3]
    assert found["a.weight[2:6]"][("c.weight", 1)] == [0, 1, 2, 3]


def test_strided_slice_takes_every_other_channel():
    found = maps(traced(lambda m, x: m.b(m.a(x)[:, ::2]), a=conv(3, 6), b=conv(3, 2)))
    assert found["a.weight[0:5]"][("a.weight", 0)] == [0, -1, 1, -1, 2, -1]
    assert found["a.weight[0:5]"][("b.weight", 1)] == [0, 1, 2]


def test_overlapping_slices_are_kept_apart_by_where_they_occur():
    """Channels read twice and channels read once are not exchangeable."""
    graph = traced(lambda m, x: m.b(m.a(x)[:, :3]) + m.c(m.a(x)[:, 1:]), a=conv(3, 4), b=conv(3, 1), c=conv(3, 1))
    assert {name: group[("a.weight", 0)] for name, group in maps(graph).items()} == {
        "a.weight[0:1]": [0, -1, -1, -1],
        "a.weight[1:3]": [-1, 0, 1, -1],
        "a.weight[3:4]": [-1, -1, -1, 0],
    }


def test_zero_padding_is_an_offset_and_the_padding_is_free():
    """Option A: the padded channels of the shortcut may go with those of the branch."""
    graph = traced(
        lambda m, x: m.out(F.pad(m.a(x), (0, 0, 0, 0, 1, 2)) + m.b(x)), a=conv(3, 2), b=conv(3, 5), out=conv(5, 2)
    )
    found = maps(graph)
    tied = found["a.weight"]
    assert tied[("a.weight", 0)] == [0, 1]
    assert tied[("b.weight", 0)] == [-1, 0, 1, -1, -1]
    (free,) = [group for name, group in found.items() if name != "a.weight"]
    assert free[("b.weight", 0)] == [0, -1, -1, 1, 2]
    assert free[("out.weight", 1)] == [0, -1, -1, 1, 2]


def test_flatten_repeats_each_channel_in_a_block():
    graph = traced(lambda m, x: m.out(F.max_pool2d(m.a(x), 4).flatten(1)), a=conv(3, 2), out=nn.Linear(8, 3))
    assert maps(graph)["a.weight"][("out.weight", 1)] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_flatten_of_channels_last_repeats_with_a_stride():
    graph = traced(
        lambda m, x: m.out(F.max_pool2d(m.a(x), 4).permute(0, 2, 3, 1).reshape(x.shape[0], -1)),
        a=conv(3, 2),
        out=nn.Linear(8, 3),
    )
    assert maps(graph)["a.weight"][("out.weight", 1)] == [0, 1, 0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("way", ["view", "function"])
def test_channel_shuffle_interleaves(way: str):
    """Channel i of each half goes to 2 i and 2 i + 1, so halves shrink alike."""

    def forward(m, x):
        y = m.a(x)
        if way == "function":
            return m.out(F.channel_shuffle(y, 2))
        b, c, h, w = y.shape
        return m.out(y.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w))

    (group,) = maps(traced(forward, a=conv(3, 6), out=conv(6, 2))).values()
    assert group[("a.weight", 0)] == [0, 1, 2, 0, 1, 2]
    assert group[("out.weight", 1)] == [0, 0, 1, 1, 2, 2]


def test_pixel_shuffle_takes_blocks():
    (group,) = maps(traced(lambda m, x: m.out(F.pixel_shuffle(m.a(x), 2)), a=conv(3, 8), out=conv(2, 1))).values()
    assert group[("a.weight", 0)] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert group[("out.weight", 1)] == [0, 1]


def test_pixel_unshuffle_makes_blocks():
    (group,) = maps(traced(lambda m, x: m.out(F.pixel_unshuffle(m.a(x), 2)), a=conv(3, 2), out=conv(8, 1))).values()
    assert group[("a.weight", 0)] == [0, 1]
    assert group[("out.weight", 1)] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_grouped_convolution_within_groups():
    """One channel of every group goes, so that groups stay equal."""
    graph = traced(lambda m, x: m.out(m.g(m.a(x))), a=conv(3, 6), g=conv(6, 4, groups=2), out=conv(4, 1))
    found = maps(graph)
    assert found["a.weight"] == {
        ("a.weight", 0): [0, 1, 2, 0, 1, 2],
        ("a.bias", 0): [0, 1, 2, 0, 1, 2],
        ("g.weight", 1): [0, 1, 2],
    }
    assert found["g.weight"][("g.weight", 0)] == [0, 1, 0, 1]
    assert found["g.weight"][("out.weight", 1)] == [0, 1, 0, 1]


def test_grouped_convolution_by_whole_groups():
    graph = traced(
        lambda m, x: m.out(m.g(m.a(x))), a=conv(3, 6), g=conv(6, 4, groups=2), out=conv(4, 1), grouped="whole"
    )
    (group,) = maps(graph).values()
    assert group[("a.weight", 0)] == [0, 0, 0, 1, 1, 1]
    assert group[("g.weight", 0)] == [0, 0, 1, 1]
    assert ("g.weight", 1) not in group


def test_depthwise_convolution_with_a_multiplier():
    graph = traced(lambda m, x: m.out(m.d(m.a(x))), a=conv(3, 3), d=conv(3, 6, groups=3), out=conv(6, 1))
    (group,) = maps(graph).values()
    assert group[("a.weight", 0)] == [0, 1, 2]
    assert group[("d.weight", 0)] == [0, 0, 1, 1, 2, 2]
    assert group[("out.weight", 1)] == [0, 0, 1, 1, 2, 2]


def test_transposed_convolution_has_its_output_on_axis_one():
    graph = traced(lambda m, x: m.out(m.t(m.a(x))), a=conv(3, 4), t=nn.ConvTranspose2d(4, 5, 2, 2), out=conv(5, 1))
    found = maps(graph)
    assert found["a.weight"][("t.weight", 0)] == [0, 1, 2, 3]
    (other,) = [group for name, group in found.items() if name != "a.weight"]
    assert other[("t.weight", 1)] == other[("t.bias", 0)] == other[("out.weight", 1)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("groups", "inputs", "outputs"), [(4, [0, 1, 2, 3], [0, 1, 2, 3]), (2, [0, 1, 0, 1], [0, 1, 0, 1])]
)
def test_grouped_transposed_convolution(groups: int, inputs: list[int], outputs: list[int]):
    layer = nn.ConvTranspose2d(4, 4, 2, 2, groups=groups)
    found = maps(traced(lambda m, x: m.out(m.t(m.a(x))), a=conv(3, 4), t=layer, out=conv(4, 1)))
    assert found["a.weight"][("t.weight", 0)] == inputs
    consumer = next(group for group in found.values() if ("out.weight", 1) in group)
    assert consumer[("out.weight", 1)] == outputs
    assert (consumer is found["a.weight"]) == (groups == 4)


def test_broadcast_operand_is_exempt():
    """A map of one channel multiplied to all of them ties nothing."""
    graph = traced(lambda m, x: m.out(m.a(x) * m.mask(x)), a=conv(3, 4), mask=conv(3, 1), out=conv(4, 1))
    assert set(maps(graph)) == {"a.weight"}


def test_squeeze_excite_gate_follows_the_gated_channels():
    graph = traced(
        lambda m, x: m.out(m.a(x) * torch.sigmoid(m.up(F.relu(m.down(m.a(x).mean((2, 3), keepdim=True)))))),
        a=conv(3, 4),
        down=conv(4, 2, 1),
        up=conv(2, 4, 1),
        out=conv(4, 1),
    )
    found = maps(graph)
    assert found["a.weight"][("up.weight", 0)] == found["a.weight"][("down.weight", 1)] == [0, 1, 2, 3]
    assert found["down.weight"][("up.weight", 1)] == [0, 1]


@pytest.mark.parametrize(
    ("repeat", "expected"),
    [
        (lambda y: y.repeat(1, 2, 1, 1), [0, 1, 2, 0, 1, 2]),
        (lambda y: torch.tile(y, (2, 1, 1)), [0, 1, 2, 0, 1, 2]),
        (lambda y: y.repeat_interleave(2, dim=1), [0, 0, 1, 1, 2, 2]),
        (lambda y: torch.cat([y, y], 1), [0, 1, 2, 0, 1, 2]),
        (lambda y: y.unsqueeze(2).expand(-1, -1, 2, -1, -1).flatten(1, 2), [0, 0, 1, 1, 2, 2]),
    ],
)
def test_repetition_is_one_to_many(repeat, expected: list[int]):
    (group,) = maps(traced(lambda m, x: m.out(repeat(m.a(x))), a=conv(3, 3), out=conv(6, 1))).values()
    assert group[("a.weight", 0)] == [0, 1, 2]
    assert group[("out.weight", 1)] == expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ((0, 2, 3, 1), [0, 1, 0, 1, 0, 1, 0, 1]),
        ((0, 3, 1, 2), [0, 0, 1, 1, 0, 0, 1, 1]),
        ((0, 2, 1, 3), [0, 0, 1, 1, 0, 0, 1, 1]),
    ],
)
def test_transpositions_permute_positions(order: tuple[int, ...], expected: list[int]):
    """Channels in the middle of a flattened order: runs of the axes after them, repeated by the axes before."""
    graph = traced(
        lambda m, x: m.out(F.max_pool2d(m.a(x), 4).permute(order).flatten(1)), a=conv(3, 2), out=nn.Linear(8, 3)
    )
    assert maps(graph)["a.weight"][("out.weight", 1)] == expected


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


def test_tied_weights_are_one_tensor():
    """An embedding that is also the output layer: columns and inputs are one axis, listed once."""
    model = Function(
        lambda m, x: m.out(m.hidden(m.table(x)).relu()),
        table=nn.Embedding(7, 4),
        hidden=nn.Linear(4, 4),
        out=nn.Linear(4, 7, bias=False),
    )
    model.out.weight = model.table.weight
    graph = trace(seeded(model), (torch.zeros(1, 3, dtype=torch.long),))
    (group,) = maps(graph).values()
    assert group[("table.weight", 1)] == group[("hidden.weight", 0)] == group[("hidden.weight", 1)] == [0, 1, 2, 3]
    assert not any(name == "out.weight" for name, _ in group)


def test_module_used_twice_unites_both_uses():
    graph = traced(lambda m, x: m.out(m.b(F.relu(m.b(m.a(x))))), a=conv(3, 4), b=conv(4, 4), out=conv(4, 1))
    (group,) = maps(graph).values()
    assert group[("b.weight", 0)] == group[("b.weight", 1)] == group[("a.weight", 0)] == [0, 1, 2, 3]


def test_convolution_with_computed_weights():
    """Weight standardisation reshapes, normalises and scales the weight before it is used."""

    def forward(m, x):
        weight = m.b.weight
        flat = F.batch_norm(weight.reshape(1, 4, -1), None, None, m.gain, training=True)
        return m.out(F.conv2d(m.a(x), flat.reshape_as(weight), m.b.bias, padding=1))

    model = Function(forward, a=conv(3, 5), b=conv(5, 4), out=conv(4, 1))
    model.gain = nn.Parameter(torch.ones(4))
    found = maps(trace(seeded(model), image()))
    assert found["a.weight"][("b.weight", 1)] == [0, 1, 2, 3, 4]
    rows = next(group for name, group in found.items() if name != "a.weight")
    assert rows[("b.weight", 0)] == rows[("gain", 0)] == rows[("out.weight", 1)] == [0, 1, 2, 3]


def test_selective_kernel_stack_and_unbind():
    """Branches stacked on a new axis, weighted by a softmax over it, and summed: one group of all branches."""

    def forward(m, x):
        branches = torch.stack([m.a(x), m.b(x)], dim=1)
        gates = m.gate(branches.sum(1).mean((2, 3))).view(x.shape[0], 2, 3, 1, 1).softmax(dim=1)
        first, second = (branches * gates).unbind(1)
        return m.out(first + second)

    modules = {"a": conv(3, 3), "b": conv(3, 3), "gate": nn.Linear(3, 6), "out": conv(3, 1)}
    (group,) = maps(traced(forward, **modules)).values()
    assert group[("a.weight", 0)] == group[("b.weight", 0)] == group[("out.weight", 1)] == [0, 1, 2]
    assert group[("gate.weight", 0)] == [0, 1, 2, 0, 1, 2]


def test_einsum_letters():
    graph = traced(
        lambda m, x: m.out(torch.einsum("bnc,bmc->bnm", m.q(x), m.k(x)) @ m.v(x)),
        torch.rand(1, 5, 3),
        q=nn.Linear(3, 4),
        k=nn.Linear(3, 4),
        v=nn.Linear(3, 2),
        out=nn.Linear(2, 1),
    )
    found = maps(graph)
    assert found["q.weight"][("k.weight", 0)] == [0, 1, 2, 3]
    assert found["v.weight"][("out.weight", 1)] == [0, 1]


def test_token_mixing_axis():
    """Mixer: a hidden layer over positions, between two transpositions; the positions themselves stay."""
    graph = traced(
        lambda m, x: m.out(x + m.up(F.gelu(m.down(x.transpose(1, 2)))).transpose(1, 2)),
        torch.rand(1, 5, 3),
        down=nn.Linear(5, 4),
        up=nn.Linear(4, 5),
        out=nn.Linear(3, 2),
    )
    assert maps(graph) == {
        "down.weight": {
            ("down.weight", 0): [0, 1, 2, 3],
            ("down.bias", 0): [0, 1, 2, 3],
            ("up.weight", 1): [0, 1, 2, 3],
        }
    }


def test_group_normalisation_keeps_groups_equal():
    graph = traced(lambda m, x: m.out(m.norm(m.a(x))), a=conv(3, 6), norm=nn.GroupNorm(2, 6), out=conv(6, 1))
    (group,) = maps(graph).values()
    assert group[("norm.weight", 0)] == group[("a.weight", 0)] == [0, 1, 2, 0, 1, 2]


def test_layer_normalisation_follows_the_last_axis():
    graph = traced(
        lambda m, x: m.out(m.norm(m.a(x))),
        torch.rand(1, 5, 3),
        a=nn.Linear(3, 4),
        norm=nn.LayerNorm(4),
        out=nn.Linear(4, 1),
    )
    assert maps(graph)["a.weight"][("norm.bias", 0)] == [0, 1, 2, 3]


def test_sliding_windows():
    """unfold makes each channel kernel-size consecutive rows; fold adds them up again."""
    graph = traced(
        lambda m, x: m.out(F.fold(m.mix(F.unfold(m.a(x), 2).transpose(1, 2)).transpose(1, 2), (8, 8), 2)),
        a=conv(3, 2),
        mix=nn.Linear(8, 12),
        out=conv(3, 1),
    )
    found = maps(graph)
    assert found["a.weight"][("mix.weight", 1)] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert found["mix.weight"][("mix.weight", 0)] == [0] * 4 + [1] * 4 + [2] * 4
    assert found["mix.weight"][("out.weight", 1)] == [0, 1, 2]


def test_gated_linear_unit_ties_halves():
    (group,) = maps(traced(lambda m, x: m.out(F.glu(m.a(x), 1)), a=conv(3, 6), out=conv(3, 1))).values()
    assert group[("a.weight", 0)] == [0, 1, 2, 0, 1, 2]
    assert group[("out.weight", 1)] == [0, 1, 2]


def test_channel_selected_by_number_stays():
    graph = traced(lambda m, x: m.out(m.a(x)) * m.a(x)[:, 1].unsqueeze(1), a=conv(3, 3), out=conv(3, 1))
    ((name, group),) = maps(graph).items()
    assert name == "a.weight[0:3]"
    assert group[("a.weight", 0)] == [0, -1, 1]


def test_inputs_and_outputs_stay():
    """The caller's channels are not ours to cut; the reason is given."""
    graph = traced(lambda m, x: m.b(m.a(x)), a=conv(3, 4), b=conv(4, 2))
    assert set(graph.frozen) == {"b.weight", "b.bias"}
    assert "output" in graph.frozen["b.weight"]
    assert ("a.weight", 1) not in maps(graph)["a.weight"]


def test_what_reaches_the_output_beside_the_last_layer_stays():
    """A feature returned for its own sake."""
    graph = traced(lambda m, x: (m.b(m.a(x)), m.a(x)), a=conv(3, 4), b=conv(4, 2))
    assert not graph.channel_groups()


torch.library.define("within_test::reverse", "(Tensor x) -> Tensor")


@torch.library.impl("within_test::reverse", "default")
def _reverse(x: torch.Tensor) -> torch.Tensor:
    return x.flip(1).clone()


@torch.library.register_fake("within_test::reverse")
def _reverse_fake(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def test_operator_without_a_rule_fixes_its_channels_and_is_reported():
    """Guessing that an unknown operator leaves channels in order would cut the wrong ones."""

    class Reversed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = conv(3, 4), conv(4, 4), conv(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(torch.ops.within_test.reverse(self.b(self.a(x))))

    graph = trace(seeded(Reversed()), image())
    assert set(maps(graph)) == {"a.weight"}
    (unsupported,) = graph.unsupported
    assert unsupported.kind == "within_test.reverse"
    assert "test_channel_groups.py" in unsupported.places[0]
    assert "no rule" in graph.frozen["b.weight"]


def test_dynamic_trace_finds_the_same_groups():
    """Symbolic sizes must not change what is tied."""
    model = seeded(Function(lambda m, x: m.out(F.pixel_shuffle(m.a(x), 2)), a=conv(3, 8), out=conv(2, 1)))
    assert maps(trace(model, image(), dynamic=True)) == maps(trace(model, image()))


def test_unknown_group_name():
    graph = traced(lambda m, x: m.b(m.a(x)), a=conv(3, 4), b=conv(4, 2))
    with pytest.raises(WithinError, match="no channel group named 'c'"):
        graph.group("c")
    with pytest.raises(WithinError, match="out of range"):
        graph.width_vector({"a.weight": 5})


@settings(deadline=None, max_examples=10)
@given(model=composed(), seed=st.integers(0, 999))
def test_groups_partition_positions_and_sizes_follow(model: nn.Module, seed: int):
    """A position of two groups, an atom that a member lacks, a predicted size that is not what is kept."""
    graph = trace(model, image())
    groups = graph.channel_groups()
    assert len({group.name for group in groups}) == len(groups)
    for group in groups:
        for member in group.members:
            present, counts = torch.from_numpy(member.atoms[member.atoms >= 0]).unique(return_counts=True)
            assert present.tolist() == list(range(group.size))
            assert len(set(counts.tolist())) == 1
    kept = random_kept(graph, seed)
    masks = graph.keep_masks(kept)
    vector = graph.width_vector({name: len(atoms) for name, atoms in kept.items()})
    for value, axes in graph.axes.items():
        for axis, index in axes.items():
            positions = index.kept(masks)
            assert len(positions) == index.size(vector) == graph.shape(value, vector)[axis] > 0
            assert positions.max() < graph.shapes[value][axis]
