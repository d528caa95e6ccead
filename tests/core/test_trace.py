"""Tracing: what a user gets for a model that works, and what for one that does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.core.networks import Composed, ConvNorm, Function, conv, image, seeded
from torch import nn

from within.core.errors import WithinError
from within.core.graph import trace
from within.core.pruning.masked import MaskedReference
from within.core.pruning.slim import slim


class BranchesOnValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        if y.sum() > 0:  # the line of the error
            return y
        return -y


def test_operators_come_in_execution_order_with_their_modules():
    graph = trace(seeded(Function(lambda m, x: m.b(F.relu(m.a(x))), a=ConvNorm(3, 4), b=conv(4, 2))), image())
    assert [op.kind for op in graph.operators] == ["conv2d", "batch_norm", "relu", "relu", "conv2d"]
    assert [op.module for op in graph.operators] == ["a.conv", "a.norm", "a", "", "b"]
    assert [op.index for op in graph.operators] == list(range(5))


def test_arguments_go_by_their_names_with_defaults():
    """Rules read arguments by name; a positional or missing one must be there all the same."""
    graph = trace(seeded(Function(lambda m, x: F.max_pool2d(m.a(x), 2), a=conv(3, 4, stride=1))), image())
    convolution, pool = graph.operators
    assert convolution["groups"] == 1
    assert list(convolution["padding"]) == [1, 1]
    assert [node.name for node in convolution.tensors] == ["inputs_0", "p_a_weight", "p_a_bias"]
    assert pool["ceil_mode"] is False
    assert pool.get("absent", 3) == 3


@pytest.mark.parametrize("training", [True, False])
def test_modes_of_all_modules_are_left_as_they_were(training: bool):
    """A trace that leaves the model in eval mode would silently stop the user's training."""
    model = seeded(Composed([("Residual", 4)], "pooled")).train(training)
    model.blocks[0].first.norm.eval()
    before = {name: module.training for name, module in model.named_modules()}
    graph = trace(model, image())
    assert {name: module.training for name, module in model.named_modules()} == before
    assert not any(op["training"] for op in graph.operators if op.kind == "batch_norm")


def test_modes_are_restored_after_a_failure_too():
    model = BranchesOnValues().train()
    with pytest.raises(WithinError):
        trace(model, image())
    assert model.training


def test_nothing_is_computed_and_nothing_changes():
    """Statistics and weights after the trace are those before it; the meta device has none to begin with."""
    model = seeded(Composed([("Residual", 4)], "pooled")).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, image())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.device("meta"):
        graph = trace(Composed([("Residual", 4)], "pooled"), (torch.zeros(1, 3, 8, 8),))
    assert len(graph.channel_groups()) == 2


def test_control_flow_on_values_names_operator_and_line(capfd: pytest.CaptureFixture[str]):
    """The message must lead to the user's own file and line, not into torch, and nothing else is printed."""
    with pytest.raises(WithinError) as caught:
        trace(BranchesOnValues(), image())
    lines = Path(__file__).read_text().splitlines()
    line = next(number for number, text in enumerate(lines, start=1) if text.endswith("# the line of the error"))
    assert f"test_trace.py:{line} in forward (if y.sum() > 0:" in str(caught.value)
    assert "cannot be traced at operator item" in str(caught.value)
    assert "control flow" in str(caught.value)
    assert not capfd.readouterr().err


def test_wrong_input_shape_names_operator_and_line():
    with pytest.raises(WithinError) as caught:
        trace(seeded(Function(lambda m, x: m.a(x), a=conv(5, 4))), image())
    assert "operator convolution" in str(caught.value)
    assert "to have 5 channels" in str(caught.value)
    assert "test_trace.py:" in str(caught.value)


def test_operator_unknown_to_export_is_named():
    """A custom operator without a fake kernel."""
    torch.library.define("within_test::opaque", "(Tensor x) -> Tensor")
    torch.library.impl("within_test::opaque", "CPU", lambda x: x.clone())
    with pytest.raises(WithinError, match="opaque"):
        trace(seeded(Function(lambda m, x: torch.ops.within_test.opaque(m.a(x)), a=conv(3, 4))), image())


def test_inputs_must_be_a_tuple_and_policies_known():
    with pytest.raises(WithinError, match="must be a tuple"):
        trace(conv(3, 4), image()[0])
    with pytest.raises(WithinError, match="'dimension' or 'whole'"):
        trace(conv(3, 4), image(), heads="half")


def test_dynamic_leaves_batch_and_size_open():
    graph = trace(seeded(Function(lambda m, x: m.a(x), a=conv(3, 4))), image(), dynamic=True)
    (placeholder,) = [node for node in graph.fx_graph.nodes if node.name == "inputs_0"]
    batch, channels, height, width = placeholder.meta["val"].shape
    assert not isinstance(batch, int)
    assert not isinstance(height, int)
    assert not isinstance(width, int)
    assert channels == 3


def test_dynamic_falls_back_to_what_the_model_permits():
    """A model that fixes its size still gets an open batch; one that fixes everything is traced as it is."""
    sized = Function(lambda m, x: m.a(x) + torch.zeros(8, 8), a=conv(3, 4))
    graph = trace(seeded(sized), image(), dynamic=True)
    (placeholder,) = [node for node in graph.fx_graph.nodes if node.name == "inputs_0"]
    assert not isinstance(placeholder.meta["val"].shape[0], int)
    assert placeholder.meta["val"].shape[2] == 8
    fixed = Function(lambda m, x: m.a(x).view(1, 256), a=conv(3, 4))
    assert trace(seeded(fixed), image(), dynamic=True).shapes["conv2d"] == (1, 4, 8, 8)


class CountsWindows(nn.Module):
    """As SwinIR: the batch becomes a Python number, which makes torch.export fix it at that of the example."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = conv(3, 6), nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        _, channels, height, width = y.shape
        windows = y.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 4, 5, 1).reshape(-1, 16, channels)
        batch = int(windows.shape[0]) // (int(height) * int(width) // 16)
        tokens = self.last(F.gelu(windows)).view(batch, -1, 16, 5)
        return tokens.mean((1, 2)).view(batch, 5)


def test_a_batch_that_is_read_as_a_number_is_opened_again():
    """A graph module that takes the batch of a trace only; the sizes that stay fixed are noted."""
    model = seeded(CountsWindows())
    graph = trace(model, image(), dynamic=True)
    assert graph.notes == ("The model fixes x: axis 2 at 8, axis 3 at 8",)
    cut = slim(trace(model, image()), {"first.weight": [0, 2, 3]}, prefer="graph")
    reference = MaskedReference(trace(model, image(3)), {"first.weight": [0, 2, 3]})
    for batch in (1, 2, 3, 5):
        assert cut(*image(batch)).shape == (batch, 5)
    torch.testing.assert_close(cut(*image(3)), reference(*image(3))[0])


class Caches(nn.Module):
    """As LeViT: the forward keeps what it computes, in a dictionary of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.kept = conv(3, 4), {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if "scale" not in self.kept:
            self.kept["scale"] = self.conv.weight.square().mean()
        return self.conv(x) * self.kept["scale"]


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_forward_that_caches_is_left_clean(dynamic: bool):
    """A tensor of the trace that stays in the model would end its next call, or its copy."""
    model = seeded(Caches())
    trace(model, image(), dynamic=dynamic)
    assert type(model(*image())) is torch.Tensor
    assert all(type(value) in (torch.Tensor, nn.Parameter) for value in model.kept.values())


def test_what_stays_fixed_is_noted():
    """Nothing, the size, or everything; a plain trace is of its example anyway and says nothing."""
    assert trace(seeded(Function(lambda m, x: m.a(x), a=conv(3, 4))), image(), dynamic=True).notes == ()
    sized = Function(lambda m, x: m.a(x) + torch.zeros(8, 8), a=conv(3, 4))
    assert trace(seeded(sized), image(), dynamic=True).notes == ("The model fixes inputs_0: axis 2 at 8, axis 3 at 8",)
    fixed = Function(lambda m, x: m.a(x).view(1, 256) + 1, a=conv(3, 4))
    (note,) = trace(seeded(fixed), image(), dynamic=True).notes
    assert note == "The model fixes inputs_0: axis 0 at 1, axis 2 at 8, axis 3 at 8"
    assert trace(seeded(fixed), image()).notes == ()


def test_several_inputs_and_outputs():
    graph = trace(seeded(Function(lambda m, x, y: (m.a(x), m.a(y)), a=conv(3, 4))), (*image(), *image(2)))
    assert graph.input_names == ("inputs_0", "inputs_1")
    assert [node.name for node in graph.output_nodes] == ["conv2d", "conv2d_1"]
    assert graph.shapes["conv2d_1"] == (2, 4, 8, 8)


class KeepsPlainTensor(nn.Module):
    """Holds a tensor that is neither parameter nor buffer, and moves it to the input's type in every forward."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.full((1, 3, 1, 1), 0.5)
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.mean = self.mean.type_as(image)
        return self.convolution(image - self.mean)


def test_plain_tensors_of_a_model_are_traced_and_left_alone():
    """Would catch a check of dynamic shapes that cannot copy such a model, or leaves a tensor without data in it."""
    model = KeepsPlainTensor()
    for _ in range(2):
        graph = trace(model, (torch.rand(1, 3, 8, 8),), dynamic=True)
        assert not graph.notes
        assert type(model.mean) is torch.Tensor
        assert bool(model(torch.zeros(2, 3, 10, 12)).any())
