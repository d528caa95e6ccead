"""Every transform on every small network: the same outputs, exact figures of memory, and the original left alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.networks import composed, image
from tests.core.transform_cases import NETWORKS, assert_same, case, counted, images, predicted, run

from within.core.cost import PeakMemory
from within.core.graph import trace
from within.core.transform import TRANSFORMS
from within.core.transform.editable import editable

NAMES = [name for name in TRANSFORMS if name != "liveness"]


@pytest.mark.parametrize("name", NETWORKS)
def test_each_transform_alone_and_on_top_of_the_others(name: str) -> None:
    """Would catch a transform that is right on a plain graph and wrong on one that another has edited."""
    model, inputs = case(name)
    reference = run(model, inputs)
    plain = editable(model, inputs)
    assert_same(plain, model, inputs)
    stacked = plain
    for transform in NAMES:
        alone = TRANSFORMS[transform](plain, inputs)
        assert_same(alone, model, inputs)
        assert counted(alone, inputs) == predicted(alone, inputs), transform
        code = stacked.code
        grown = TRANSFORMS[transform](stacked, inputs)
        assert stacked.code == code
        assert_same(grown, model, inputs)
        assert counted(grown, inputs) == predicted(grown, inputs), transform
        stacked = grown
    assert_same(plain, model, inputs, 0)  # shares weights with all that came from it
    assert all(torch.equal(a, b) for a, b in zip(run(model, inputs), reference, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_transforms_hold_at_sizes_that_they_were_not_made_for(name: str) -> None:
    """Would catch a height, width or batch of the example left in the graph as a number."""
    model, inputs = case(name)
    width = 11 if name == "unet" else 10  # the trace takes its padding for images of odd sizes
    others = images(*[(size[0], 21, width) for size in NETWORKS[name][1]], seed=3)
    batch = tuple(torch.cat([item, 1 - item]) for item in others)
    plain = editable(model, inputs)
    for transform in NAMES:
        module = TRANSFORMS[transform](plain, inputs)
        assert_same(module, model, others)
        assert_same(module, model, batch)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_ruler_of_the_transforms_is_peak_memory(name: str) -> None:
    """Would catch transforms that decide by other figures than those which are promised."""
    model, inputs = case(name)
    module = editable(model, inputs)
    assert predicted(module, inputs) == PeakMemory()(trace(module, inputs))
    assert predicted(module, inputs) == counted(model, inputs)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(composed(), st.lists(st.sampled_from(NAMES), min_size=2, max_size=4), st.integers(1, 2))
def test_random_transforms_of_random_networks(model: torch.nn.Module, names: list[str], batch: int) -> None:
    """Would catch operators that a transform moves, splits or overwrites although their neighbours forbid it."""
    inputs = image(batch)
    module = editable(model, inputs)
    for name in names:
        module = TRANSFORMS[name](module, inputs)
    assert_same(module, model, inputs)
    assert counted(module, inputs) == predicted(module, inputs)
