"""channels_last: the layout inside is no business of the caller's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from tests.core.networks import Function, conv, seeded
from tests.core.transform_cases import assert_same, case, images, run

from within.core.transform import channels_last
from within.core.transform.editable import editable, is_channels_last, value


def test_convolutions_read_channels_last_and_callers_do_not() -> None:
    """Would catch a format that is converted at the edge and lost inside, or handed to the caller."""
    model, inputs = case("unet")
    module = editable(channels_last(model, inputs), inputs)
    layers = [node for node in module.graph.nodes if "conv" in str(node.target) and "val" in node.meta]
    assert len(layers) == 5
    assert all(is_channels_last(value(node)) for node in layers)
    assert all(output.is_contiguous() for output in run(module, inputs))
    assert next(model.parameters()).is_contiguous()


def test_a_view_that_is_written_through_stays_a_view() -> None:
    """Would catch a reshape that becomes a copy, so that what is written into it is lost."""

    def through_view(m, x):
        y = m.a(x)
        F.relu(y.view(y.shape[0], 4, -1), inplace=True)
        return m.b(y)

    def through_base(m, x):
        y = m.a(x)
        flat = y.reshape(y.shape[0], 4, -1)
        y.mul_(2)
        return flat

    for function in (through_view, through_base):
        model, inputs = seeded(Function(function, a=conv(3, 4), b=conv(4, 2))), images((3, 9, 7))
        assert_same(channels_last(model, inputs), model, inputs)


def test_single_channels_vectors_and_integers_pass() -> None:
    """Would catch formats asked of tensors that have no channels, or only one."""

    def function(m, x, scale, index):
        y = m.a(x) * scale
        return m.b(y)[:, :, index], y.mean((1, 2, 3))

    model = seeded(Function(function, a=conv(1, 4), b=conv(4, 1)))
    inputs = (*images((1, 9, 7)), torch.rand(4, 1, 1), torch.tensor([0, 2, 5]))
    assert_same(channels_last(model, inputs), model, inputs)
