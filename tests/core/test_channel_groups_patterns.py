"""Index maps of patterns of whole networks, what is never cut and why, and what holds for all groups."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.index_maps import maps, traced
from tests.core.networks import Function, composed, conv, image, random_kept, seeded
from torch import nn

from within.core.errors import WithinError
from within.core.graph import trace


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
    assert "test_channel_groups_patterns.py" in unsupported.places[0]
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
