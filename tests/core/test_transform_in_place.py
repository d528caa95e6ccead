"""In-place operators: only into storages that the graph made and that nobody needs afterwards."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.core.networks import Function, conv, seeded
from tests.core.transform_cases import assert_same, images
from torch import fx

from within.core.transform import in_place
from within.core.transform.editable import writes


def transformed(function, *, differentiable: bool = True, **modules) -> tuple[fx.GraphModule, int]:
    """The module after the transform, checked, and how many of its operators overwrite an input."""
    model, inputs = seeded(Function(function, **modules)), images((3, 9, 11))
    module = in_place(model, inputs, differentiable=differentiable)
    assert_same(module, model, inputs)
    return module, sum(writes(node) for node in module.graph.nodes)


def test_an_activation_overwrites_its_convolution() -> None:
    """Would catch a transform that finds nothing to do."""
    modules = {"a": conv(3, 4), "b": conv(4, 2)}
    _, count = transformed(lambda m, x: m.b(F.relu(m.a(x)) + 1), differentiable=False, **modules)
    assert count == 2


def test_the_input_of_the_caller_is_never_overwritten() -> None:
    """`run` compares the inputs before and after; also through a view and through a chain."""
    for function in (lambda m, x: F.relu(x), lambda m, x: (x[:, 1:] * 2).neg(), lambda m, x: F.relu(x.view(3, -1)) + 1):
        transformed(function)
    assert transformed(lambda m, x: x.view(-1).relu())[1] == 0


def test_parameters_and_buffers_are_never_overwritten() -> None:
    """Would catch a computation on weights that changes them: `assert_same` runs the module twice."""
    assert transformed(lambda m, x: x * torch.sigmoid(m.a.weight.mean()), a=conv(3, 4))[1] <= 1
    assert transformed(lambda m, x: F.conv2d(x, F.relu(m.a.weight)), a=conv(3, 4))[1] == 0


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: (lambda y: (F.relu(y), y))(m.a(x)),  # the operand is an output
        lambda m, x: (lambda y: (F.relu(y), y[:, :1]))(m.a(x)),  # a view of it is
        lambda m, x: (lambda y: F.relu(y) + m.b(y))(m.a(x)),  # it is read later
        lambda m, x: (lambda y: (lambda v, r: v + r)(y.view(1, 4, -1), F.relu(y).flatten(2)))(m.a(x)),  # a view is
        lambda m, x: (lambda y: F.relu(y) * y.transpose(2, 3).transpose(2, 3))(m.a(x)),  # as the other operand
        lambda m, x: F.relu(m.a(x)[:, :2]),  # it is part of a larger storage
        lambda m, x: F.relu(m.a(x).mean(1, keepdim=True).expand(-1, 3, -1, -1)),  # its elements share bytes
        lambda m, x: m.a(x).mean((2, 3), keepdim=True) * x[:, :1],  # the result is larger
    ],
)
def test_a_value_that_is_still_needed_is_not_overwritten(function) -> None:
    """Would catch a result written over what an output, a later reader or an alias still holds."""
    _, count = transformed(function, a=conv(3, 4), b=conv(4, 4))
    assert count <= 1  # the last sum may take the storage of its first operand


def test_what_backward_needs_stays() -> None:
    """Gradients agree with the model's; without `differentiable` more is overwritten."""

    def function(m, x):
        y = torch.sigmoid(m.a(x))
        z = F.relu(m.b(y)) * y
        return m.c(torch.tanh(z) + F.silu(m.b(z)))

    modules = {"a": conv(3, 4), "b": conv(4, 4), "c": conv(4, 1)}
    module, few = transformed(function, **modules)
    _, many = transformed(function, differentiable=False, **modules)
    assert 0 < few < many
    model, (x,) = seeded(Function(function, **modules)), images((3, 9, 11))
    model(x).square().sum().backward()
    module(x).square().sum().backward()
    for (name, ours), theirs in zip(sorted(module.named_parameters()), sorted(model.named_parameters()), strict=True):
        assert theirs[0] == name
        torch.testing.assert_close(ours.grad, theirs[1].grad)


def test_dtypes_do_not_mix() -> None:
    """Would catch a comparison or a promotion forced into the storage of another type."""
    transformed(lambda m, x: (m.a(x) > 0) * 2.0 + m.a(x).double(), a=conv(3, 4))
