"""The storage counter against figures worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.memory_cases import KeepsLocals, Pooled, Split, bytes_of
from torch import Tensor, nn

from within.core.device.memory import (
    count_storages,
    live_eager,
    live_graph_measured,
    trace_eager,
    trace_graph,
)


@pytest.mark.parametrize("compute", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_eager_keeps_what_local_variables_hold(inplace: bool, compute: bool) -> None:
    """Would catch references that the counter misses, and in-place results counted twice."""
    model, x = KeepsLocals(inplace=inplace), torch.rand(1, 3, 16, 24)
    assert live_eager(model, [x], compute=compute).bytes == bytes_of(8 + 8 + 8 + 16)


@pytest.mark.parametrize("compute", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_the_graph_executor_frees_at_last_use(inplace: bool, compute: bool) -> None:
    """Would catch values kept past their last use: `two` is gone when the maps are joined."""
    model, x = KeepsLocals(inplace=inplace), torch.rand(1, 3, 16, 24)
    assert live_graph_measured(model, [x], compute=compute).bytes == bytes_of(8 + 8 + 16)


def test_the_timeline_has_one_entry_a_node() -> None:
    """Would catch a peak that cannot be attributed to an operator."""
    model, x = KeepsLocals(inplace=True), torch.rand(1, 3, 16, 24)
    timeline = trace_graph(model, [x]).timeline
    names = [name for name, _ in timeline]
    assert names == ["conv2d", "relu_", "conv2d_1", "relu__1", "conv2d_2", "relu__2", "cat"]
    assert [size // bytes_of(1) for _, size in timeline] == [8, 8, 16, 16, 24, 16, 32]
    assert max(size for _, size in trace_eager(model, [x]).timeline) == trace_eager(model, [x]).peak


def test_a_slice_keeps_the_whole_tensor() -> None:
    """Would catch the bytes of a view being counted instead of those of its storage."""
    x = torch.rand(1, 3, 16, 24)
    assert live_graph_measured(Split(), [x]).bytes == bytes_of(8 + 8 + 10)


def test_indices_of_max_pooling_count() -> None:
    """Would catch int64 results counted with four bytes: 96 values in, 24 out with their indices."""
    x = torch.rand(1, 1, 8, 12)
    assert live_graph_measured(Pooled(), [x]).bytes == 4 * 96 + 4 * 24 + 8 * 24


def test_weights_input_and_views_of_them_do_not_count() -> None:
    """Would catch a flattened input or a transposed weight taken for an activation."""
    weight, x = torch.rand(5, 6), torch.rand(4, 2, 3)
    trace_ = count_storages(lambda: x.flatten(1) @ weight.t(), excluded=[weight, x])
    assert trace_.peak == 4 * 4 * 5


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    keep=st.booleans(),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
)
def test_fake_and_real_runs_count_the_same(widths: list[int], keep: bool, size: tuple[int, int]) -> None:
    """Would catch a prediction that differs from a run: lifetimes depend on the code alone."""

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            pairs = zip([2, *widths], widths, strict=False)
            self.layers = nn.ModuleList(nn.Conv2d(before, after, 1) for before, after in pairs)

        def forward(self, x: Tensor) -> Tensor:
            kept = []
            for layer in self.layers:
                x = torch.relu(layer(x))
                kept.append(x if keep else x.mean())
            return x + sum(value.mean() for value in kept)

    model, x = Chain(), torch.rand(1, 2, *size)
    assert live_eager(model, [x]).bytes == live_eager(model, [x], compute=True).bytes
    fake, real = live_graph_measured(model, [x]), live_graph_measured(model, [x], compute=True)
    assert fake.bytes == real.bytes <= live_eager(model, [x]).bytes


def test_the_model_is_left_as_it_was() -> None:
    """Would catch weights replaced by fake tensors, or a model left in eval mode."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    live_eager(model, [torch.rand(1, 3, 4, 4)])
    live_graph_measured(model, [torch.rand(1, 3, 4, 4)])
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_results_without_a_storage_are_named() -> None:
    """Would catch sparse results silently counted as nothing."""
    trace_ = count_storages(lambda: torch.eye(3).to_sparse())
    assert any("sparse" in operator for operator in trace_.uncounted)
