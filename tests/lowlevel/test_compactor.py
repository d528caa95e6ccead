"""Compactors: inserting them changes nothing, rebasing changes nothing but rounding, and they decouple widths."""

from __future__ import annotations

import pytest
import torch

from within.core import PeakMemory, WithinError, trace
from within.core.pruning.statistics import input_moments
from within.lowlevel import compactor
from within.lowlevel.models import build, example_inputs

NETWORKS = {"unet": {"widths": (8, 12, 16)}, "n2n_unet": {}, "pmrid": {}}


@pytest.mark.parametrize("name", NETWORKS)
def test_insertion_is_bit_identical(name: str) -> None:
    """At the traced size and at another one; concatenated (U-Nets) and added (PMRID) skips."""
    torch.manual_seed(0)
    model = build(name, **NETWORKS[name]).eval()
    inputs = tuple(torch.rand_like(item) for item in example_inputs(name, 64, 64))
    skips = compactor.long_skips(trace(model, inputs))
    assert skips
    adapted = compactor.insert(model, inputs, **compactor.step_arguments(skips)).eval()
    other = torch.rand(2, inputs[0].shape[1], 64, 96)
    with torch.no_grad():
        assert torch.equal(adapted(*inputs), model(*inputs))
        assert torch.equal(adapted(other), model(other))


def test_rebasing_computes_the_same_function() -> None:
    torch.manual_seed(0)
    model = build("unet", widths=(8, 12, 16)).eval()
    image = torch.rand(2, 3, 32, 32)
    skips = compactor.long_skips(trace(model, (image,)))
    adapted = compactor.insert(model, (image,), **compactor.step_arguments(skips)).eval()
    graph = trace(adapted, (image,))
    assert compactor.rebase(graph, input_moments(graph, [image])) == len(skips)
    with torch.no_grad():
        assert (adapted(image) - model(image)).abs().max() < 1e-4


def test_a_narrow_compactor_frees_memory_that_the_main_branch_cannot() -> None:
    """The skip's width is a group of its own: cutting it alone lowers the bytes held over the skip."""
    model = build("unet", widths=(8, 12, 16)).eval()
    image = torch.zeros(1, 3, 64, 64)
    skips = compactor.long_skips(trace(model, (image,)))
    graph = trace(compactor.insert(model, (image,), **compactor.step_arguments(skips)), (image,))
    own = [group for group in graph.channel_groups() if group.name.startswith("compactors.")]
    assert len(own) == len(skips)
    dense = PeakMemory()(graph)
    assert PeakMemory()(graph, {group.name: 2 for group in own}) < dense


def test_a_plan_for_another_network_is_refused() -> None:
    model = build("unet", widths=(8, 12, 16))
    image = torch.zeros(1, 3, 32, 32)
    with pytest.raises(WithinError, match="is not the skip"):
        compactor.insert(model, (image,), skips=[{"position": 3, "readers": [20], "channels": 99, "added": False}])
