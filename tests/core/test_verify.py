"""`within.core.device.verify`: the comparison must see every kind of difference, and nothing where there is none."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from within.core.device import verify
from within.core.errors import WithinError


def test_a_module_agrees_with_itself_and_keeps_its_mode() -> None:
    """Would catch a comparison run in train mode: dropout and batch statistics would differ between the two runs."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5)).train()
    result = verify(model, model, [(torch.rand(2, 3, 8, 8),)])
    assert (result.max_absolute, result.max_relative, result.argmax_agreement) == (0.0, 0.0, 1.0)
    assert all(part.training for part in model.modules())


@settings(max_examples=30, deadline=None)
@given(shift=st.floats(1e-6, 1e3), scale=st.floats(1e-3, 1e3))
def test_differences_are_those_of_the_outputs(shift: float, scale: float) -> None:
    """Would catch differences taken relative to each element, or averaged over the output."""
    inputs = torch.linspace(-1, 1, 24).reshape(2, 3, 4).double() * scale
    result = verify(lambda x: x, lambda x: x + shift, [(inputs,)], raises=False)
    assert math.isclose(result.max_absolute, shift, rel_tol=1e-6)
    assert math.isclose(result.max_relative, shift / scale, rel_tol=1e-6)
    assert result.passed == (result.max_relative <= 1e-4)


def test_an_output_of_zeros_is_compared_absolutely() -> None:
    """Would catch a division by zero."""
    result = verify(torch.zeros_like, lambda x: torch.zeros_like(x) + 1e-3, [(torch.rand(3),)], raises=False)
    assert result.max_relative == result.max_absolute > 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity_never_pass(bad: float) -> None:
    """Would catch a NaN that a maximum swallows: comparisons with it are false."""

    def candidate(x: torch.Tensor) -> torch.Tensor:
        return x.clone().index_fill(0, torch.tensor([1]), bad)

    inputs = [(torch.rand(4),), (torch.rand(4),)]
    with pytest.raises(WithinError, match="differs"):
        verify(lambda x: x, candidate, inputs)
    assert not verify(lambda x: x, candidate, inputs, raises=False).passed


def test_argmax_agreement_counts_positions() -> None:
    """Would catch agreement over the whole tensor instead of along the channels."""
    one = torch.tensor([[[0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]]])
    other = one.clone()
    other[0, :, 0] = torch.tensor([1.0, 0.0])
    result = verify(lambda _: one, lambda _: other, [(torch.zeros(1),)], raises=False)
    assert result.argmax_agreement == 0.75


def test_other_shapes_and_numbers_of_outputs_are_an_error() -> None:
    """Would catch broadcasting or zip making unlike outputs comparable."""
    inputs = [(torch.rand(2, 3),)]
    with pytest.raises(WithinError, match="shapes"):
        verify(lambda x: x, lambda x: x[:1], inputs)
    with pytest.raises(WithinError, match="shapes"):
        verify(lambda x: x, lambda x: (x, x), inputs)
    with pytest.raises(WithinError, match="nothing to verify"):
        verify(lambda x: x, lambda x: x, [])


def test_a_missing_file_is_named() -> None:
    """Would catch a traceback of the runtime instead of a sentence."""
    with pytest.raises(WithinError, match=r"no such model file.*absent\.onnx"):
        verify(lambda x: x, "absent.onnx", [(torch.rand(2),)])
