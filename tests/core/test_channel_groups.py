"""Each index map of coupled channels, against positions worked out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.core.index_maps import maps, traced
from tests.core.networks import Residual, conv
from torch import nn


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
