"""All transforms together: what is promised of `optimise_memory` and `replay`."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from tests.core.networks import Function, composed, conv, image, seeded
from tests.core.transform_cases import NETWORKS, assert_same, case, counted, images, predicted, run
from torch import nn

from within.core.cost import PeakMemory
from within.core.errors import WithinError
from within.core.graph import trace
from within.core.transform import Step, TransformResult, optimise_memory, replay


def checked(model: nn.Module, inputs: tuple[torch.Tensor, ...], **options) -> TransformResult:
    """The result, with everything that holds for every model."""
    state = copy.deepcopy(model.state_dict())
    result = optimise_memory(model, inputs, **options)
    assert_same(result.module, model, inputs)
    assert result.peak_before == counted(model, inputs)
    assert result.peak_after == predicted(result.module, inputs) == counted(result.module, inputs)
    assert result.resident_after <= result.resident_before
    assert result.peak_after <= 1.02 * result.peak_before  # a little more may live where less is resident
    assert set(result.rejected).isdisjoint(result.applied)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    return result


@pytest.mark.parametrize("name", NETWORKS)
def test_small_networks(name: str) -> None:
    """Recorded steps, through JSON, give a freshly built model the same outputs to the bit."""
    model, inputs = case(name)
    result = checked(model, inputs)
    steps = [Step(**step) for step in json.loads(json.dumps([asdict(step) for step in result.steps]))]
    again = replay(case(name)[0], inputs, steps)
    assert all(torch.equal(a, b) for a, b in zip(run(again, inputs), run(result.module, inputs), strict=True))
    assert counted(again, inputs) == result.peak_after


def test_the_result_is_a_model_like_any_other() -> None:
    """It is traced, costed and optimised again; there is nothing left to win."""
    model, inputs = case("unet")
    result = optimise_memory(model, inputs)
    assert PeakMemory()(trace(result.module, inputs)) == result.peak_after
    assert optimise_memory(result.module, inputs).peak_after == result.peak_after


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(composed(most=3))
def test_random_networks(model: nn.Module) -> None:
    """Would catch transforms that are right one by one and wrong in a row."""
    checked(model, image())


def test_a_budget_is_met_by_bands() -> None:
    """Half of what the others leave takes bands; without a budget there are none."""
    layers = {"a": conv(3, 16), "b": conv(16, 16), "c": conv(16, 1)}
    model, inputs = seeded(Function(lambda m, x: m.c(F.relu(m.b(F.relu(m.a(x))))), **layers)), images((3, 64, 8))
    transforms = ["channels_last", "in_place"]
    free = optimise_memory(model, inputs, transforms=transforms)
    assert "strips" not in free.applied
    tight = checked(model, inputs, transforms=transforms, budget=free.peak_after // 2)
    assert tight.peak_after <= free.peak_after // 2
    assert "strips" in tight.applied
    again = replay(model, inputs, tight.steps)
    assert all(torch.equal(a, b) for a, b in zip(run(again, inputs), run(tight.module, inputs), strict=True))


def test_training_mode_and_hooks() -> None:
    """A model in training is judged in evaluation and stays in training; what a hook does to a value is kept."""
    model, inputs = case("unet")
    model.train()
    result = optimise_memory(model, inputs)
    assert all(part.training for part in model.modules())
    model.eval()
    assert_same(result.module.eval(), model, inputs)
    model, inputs = case("shared")
    model.block.register_forward_hook(lambda module, args, output: output * 2)
    checked(model, inputs)


def test_a_model_that_writes_into_its_input() -> None:
    """The caller's example is not changed by the search."""
    model = seeded(Function(lambda m, x: m.b(F.relu(m.a(x.clamp_(0.2)))), a=conv(3, 6), b=conv(6, 2)))
    (x,) = images((3, 9, 7))
    before = x.clone()
    result = optimise_memory(model, (x,))
    assert torch.equal(x, before)
    with torch.no_grad():
        torch.testing.assert_close(result.module(x.clone()), model(x.clone()))


def test_outputs_that_are_no_images() -> None:
    """Masks, indices and numbers; a model without an operator; one whose output is not finite."""

    def function(m, x):
        y = F.relu(m.b(F.relu(m.a(x))))
        return y.argmax(1), y > 0.5, y.mean()

    inputs = images((3, 9, 7))
    checked(seeded(Function(function, a=conv(3, 6), b=conv(6, 6))), inputs)
    assert checked(nn.Identity(), inputs).peak_after == 0
    infinite = seeded(Function(lambda m, x: m.b(F.relu(m.a(x))).log(), a=conv(3, 6), b=conv(6, 2)))
    with torch.no_grad():
        infinite.b.bias.fill_(-100)
    assert optimise_memory(infinite, inputs).max_abs_difference == 0


def test_what_changes_the_output_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a check that compares nothing."""
    from within.core.transform import table

    def wrong(module, inputs, **arguments):
        result = table.channels_last(module, inputs)
        with torch.no_grad():
            for name, parameter in result.named_parameters():
                if name == "b.weight":
                    parameter.mul_(1.01)
        return result

    monkeypatch.setitem(table.TRANSFORMS, "channels_last", wrong)
    model = seeded(Function(lambda m, x: m.b(F.relu(m.a(x))), a=conv(3, 16), b=conv(16, 16)))
    result = optimise_memory(model, images((3, 64, 64)), transforms=["channels_last"])
    assert "changes the output" in result.rejected["channels_last"]
    assert result.applied == ("liveness",)


def test_errors_name_what_to_do() -> None:
    """Unknown names, and steps of another model."""
    model, inputs = case("unet")
    with pytest.raises(WithinError, match="no transform named 'faster'"):
        optimise_memory(model, inputs, transforms=["faster"])
    with pytest.raises(WithinError, match="no transform named 'faster'"):
        replay(model, inputs, [Step("faster")])
    with pytest.raises(WithinError, match="does not fit"):
        replay(model, inputs, [Step("transposed_convolution", {"sites": ["no_such_node"]})])
    with pytest.raises(WithinError, match="does not fit"):
        replay(model, inputs, [Step("in_place", {"colour": "red"})])
