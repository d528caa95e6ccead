"""Peak memory: lifetimes worked out by hand, and equality with the storage counter before and after cutting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.networks import (
    Attention,
    Composed,
    Function,
    GroupNormed,
    LayerNormed,
    UnequalSplit,
    composed,
    conv,
    image,
    random_kept,
    seeded,
)
from torch import nn

from within.core.cost import PeakMemory
from within.core.device.memory.graph_executor import trace_graph
from within.core.graph import Graph, trace
from within.core.pruning.slim import slim

MAP = 8 * 8 * 4  # bytes of one channel of an 8x8 image in single precision


def traced(function, *inputs: torch.Tensor, **modules: nn.Module) -> Graph:
    return trace(seeded(Function(function, **modules)), inputs or image())


def live(graph: Graph) -> list[int]:
    """Predicted live bytes operator by operator, in maps of one channel."""
    return [int(value) // MAP for value in PeakMemory().timeline(graph).bytes]


def measured(graph: Graph, *, compute: bool = False) -> dict[str, int]:
    """What the storage counter sees operator by operator."""
    return dict(trace_graph(graph.program, graph.inputs, compute=compute).timeline)


def assert_exact(graph: Graph, *, compute: bool = False) -> None:
    timeline = PeakMemory().timeline(graph)
    predicted = dict(zip(timeline.operators, timeline.bytes.tolist(), strict=True))
    found = measured(graph, compute=compute)
    assert {name: found[name] for name in predicted} == predicted


def test_input_and_output_of_an_operator_live_together():
    """3 -> 4 -> 5 channels: the image is the caller's; the last map is returned."""
    graph = traced(lambda m, x: m.b(m.a(x)), a=conv(3, 4), b=conv(4, 5))
    assert live(graph) == [4, 4 + 5]
    assert_exact(graph)


def test_a_skip_lives_until_it_is_used():
    graph = traced(
        lambda m, x: (lambda skip: torch.cat([m.c(m.b(skip)), skip], 1))(m.a(x)),
        a=conv(3, 4),
        b=conv(4, 2),
        c=conv(2, 3),
    )
    assert live(graph) == [4, 4 + 2, 4 + 2 + 3, 4 + 3 + 7]
    assert_exact(graph)


def test_in_place_operators_take_no_memory():
    graph = traced(lambda m, x: F.relu(m.a(x), inplace=True) * 2, a=conv(3, 4))
    assert live(graph) == [4, 4, 8]
    assert_exact(graph)


def test_views_keep_what_they_view_and_cost_nothing():
    """One slice of a split holds all of it until its own last use (IMDN)."""
    graph = traced(
        lambda m, x: (lambda parts: torch.cat([parts[0], m.c(m.b(parts[1]))], 1))(m.a(x).split([1, 5], 1)),
        a=conv(3, 6),
        b=conv(5, 2),
        c=conv(2, 2),
    )
    assert live(graph) == [6, 6, 6, 6, 6 + 2, 6 + 2 + 2, 6 + 2 + 3]
    assert_exact(graph)


def test_a_reshape_that_copies_is_new_memory():
    """Whether it copies depends on strides, not on its name."""
    view = traced(lambda m, x: m.a(x).reshape(1, 2, 2, 8, 8) * 2, a=conv(3, 4))
    copy = traced(lambda m, x: m.a(x).transpose(1, 2).reshape(1, 4, 8, 8) * 2, a=conv(3, 4))
    assert live(view) == [4, 4, 8]
    assert live(copy) == [4, 4, 8, 8]
    assert_exact(view)
    assert_exact(copy)


def test_dropout_outside_of_training_is_its_input():
    """The trace gives its result a storage of its own; the executor does not."""
    graph = traced(lambda m, x: F.dropout(m.a(x)[:, :1], 0.5, False) * 2, a=conv(3, 4))
    assert live(graph) == [4, 4, 4, 4 + 1]
    assert_exact(graph)


def test_outputs_live_to_the_end():
    graph = traced(lambda m, x: (lambda y: (y, m.b(m.b(y))))(m.a(x)), a=conv(3, 4), b=conv(4, 4))
    assert live(graph) == [4, 8, 12]
    assert_exact(graph)


def test_a_view_of_the_input_is_not_ours():
    graph = traced(lambda m, x: m.a(x.flip(2)[:, :2]) + x[:, 2:], a=conv(2, 4))
    assert live(graph) == [3, 3, 3 + 4, 4, 4 + 4]
    assert_exact(graph)


def test_indices_of_a_max_pool_are_real():
    """int64: twice the bytes of the pooled map, though nobody reads them."""
    graph = traced(lambda m, x: F.max_pool2d(m.a(x), 2), a=conv(3, 4))
    assert live(graph) == [4, 4 + 1 + 2]
    assert_exact(graph)
    returned = traced(lambda m, x: F.max_pool2d(m.a(x), 2, return_indices=True), a=conv(3, 4))
    assert live(returned)[:2] == [4, 4 + 1 + 2]
    assert_exact(returned)


@pytest.mark.parametrize(
    "build",
    [
        lambda: LayerNormed(6, 6),
        lambda: GroupNormed(6, 6),
        lambda: Attention(6, 6),
        lambda: Function(lambda m, x: m.norm(x), norm=nn.InstanceNorm2d(6, affine=True)),
        lambda: Function(
            lambda m, x: F.scaled_dot_product_attention(*(x.flatten(2).unflatten(1, (2, 3)).mT.contiguous(),) * 3)
        ),
        lambda: Function(lambda m, x: m.linear(x.flatten(2).mT) @ m.linear(x.flatten(2).mT).mT, linear=nn.Linear(6, 5)),
        lambda: Function(lambda m, x: torch.einsum("bchw,bdhw->bcd", x, x.flip(1))),
    ],
)
@pytest.mark.parametrize("size", [5, 8])
def test_what_operators_allocate_inside(build, size: int):
    """Statistics of normalisations, copies of operands, sums of exponentials: operator by operator."""
    model = Function(lambda m, x: m.block(m.a(x)) * 2, a=conv(3, 6), block=build())
    assert_exact(trace(seeded(model), image(2, size)))


@settings(deadline=None, max_examples=25)
@given(model=composed(), size=st.sampled_from([8, 10, 16]), batch=st.integers(1, 3), seed=st.integers(0, 999))
def test_prediction_is_the_measurement(model: nn.Module, size: int, batch: int, seed: int):
    """At several sizes, dense and cut: the estimate under widths, the trace of the slim model, the storage counter.

    A cut to one channel may turn a copy of the slim model into a view; there the estimate is a bound.
    """
    if getattr(model, "head", "") == "flattened":
        size = 8
    graph = trace(model, image(batch, size))
    assert PeakMemory()(graph) == trace_graph(graph.program, graph.inputs).peak
    kept = random_kept(graph, seed)
    widths = {name: len(atoms) for name, atoms in kept.items()}
    slim_graph = trace(slim(graph, kept), graph.inputs)
    assert PeakMemory()(slim_graph) == trace_graph(slim_graph.program, graph.inputs).peak
    estimate, slim_peak = PeakMemory()(graph, widths), PeakMemory()(slim_graph)
    assert estimate == slim_peak or (1 in widths.values() and estimate > slim_peak)


def test_measurement_on_real_tensors_agrees():
    """Fake tensors and real ones have the same lifetimes."""
    assert_exact(trace(seeded(Composed([("Residual", 4), ("UnequalSplit", 3)], "pooled")), image()), compute=True)


@settings(deadline=None, max_examples=15)
@given(model=composed(exclude=["Attention"]), seed=st.integers(0, 999), other=st.integers(0, 999))
def test_rows_are_linear_in_the_widths(model: nn.Module, seed: int, other: int):
    """M(k) = constants + coefficients @ k, wherever they were taken (no tensor here has two channel axes)."""
    graph = trace(model, image())
    at, elsewhere = (
        graph.width_vector({name: len(atoms) for name, atoms in random_kept(graph, number).items()})
        for number in (seed, other)
    )
    coefficients, constants = PeakMemory().rows(graph, at)
    for vector in (at, elsewhere, graph.width_vector()):
        np.testing.assert_allclose(
            constants + coefficients @ vector, PeakMemory().timeline(graph, vector).bytes, rtol=1e-12, atol=1e-6
        )


def test_rows_are_tangents_where_a_tensor_has_two_channel_axes():
    """A product of two channel axes (a channel attention map) is bilinear: exact at the point, and to first order."""
    graph = traced(
        lambda m, x: m.out((m.a(x).flatten(2) @ m.b(x).flatten(2).mT) @ m.c(x).flatten(2)),
        a=conv(3, 8),
        b=conv(3, 8),
        c=conv(3, 8),
        out=nn.Linear(64, 2),
    )
    at = graph.width_vector()
    coefficients, constants = PeakMemory().rows(graph, at)
    np.testing.assert_allclose(constants + coefficients @ at, PeakMemory().timeline(graph).bytes)


def test_workspace_is_added_to_its_row():
    graph = traced(lambda m, x: m.b(m.a(x)), a=conv(3, 4), b=conv(4, 5))
    cost = PeakMemory(workspace=lambda op, shape: shape(op.name)[1] if op.kind == "conv2d" else 0)
    assert cost.timeline(graph).bytes.tolist() == [4 * MAP + 4, 9 * MAP + 5]
    assert cost(graph, {"a.weight": 2}) == 7 * MAP + 5


def test_timeline_names_what_is_alive_at_the_peak():
    graph = traced(lambda m, x: torch.cat([m.a(x), m.b(x)], 1), a=conv(3, 4), b=conv(3, 2))
    timeline = PeakMemory().timeline(graph)
    assert timeline.operators[timeline.peak_operator] == "cat"
    alive = timeline.alive(timeline.peak_operator)
    assert [(storage.value, size // MAP) for storage, size in alive] == [("cat", 6), ("conv2d", 4), ("conv2d_1", 2)]
    assert sum(size for _, size in alive) == timeline.peak


def test_types_count_with_their_own_size():
    graph = traced(lambda m, x: m.a(x).double() * 2, a=conv(3, 4))
    assert live(graph)[-1] == 8 + 8
    assert_exact(graph)


def test_symbolic_trace_has_the_sizes_of_its_example():
    model = seeded(Composed([("Residual", 4)], "image"))
    assert PeakMemory()(trace(model, image(2), dynamic=True)) == PeakMemory()(trace(model, image(2)))


def test_one_cost_object_serves_many_graphs():
    """The cached lifetimes of one graph used for another."""
    first, second = (traced(lambda m, x: m.a(x) * 2, a=conv(3, width)) for width in (4, 6))
    cost = PeakMemory()
    assert [cost(graph) // MAP for graph in (first, second, first)] == [8, 12, 8]


def test_split_with_python_sizes_keeps_the_timeline_after_cutting():
    """The rewritten graph must not gain operators where plain constants were edited."""
    graph = trace(seeded(Function(lambda m, x: m.split(m.a(x)), a=conv(3, 6), split=UnequalSplit(6, 4))), image())
    kept = random_kept(graph, 3, 0.5)
    cut = trace(slim(graph, kept), image())
    assert [op.kind for op in cut.operators] == [op.kind for op in graph.operators]
