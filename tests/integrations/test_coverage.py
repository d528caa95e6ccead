"""A fast part of the bench `coverage`, through the functions of the bench: one network for each kind of difficulty."""

from __future__ import annotations

import pytest
import torch
from tools.benchmarks import coverage
from tools.benchmarks.networks.families import ALL, OTHERS, TIMM, build_network, inputs_for, randomise
from tools.benchmarks.networks.zeroed import is_exact, zero_producers

from within.core import trace
from within.core.pruning.slim import relative_difference

pytestmark = pytest.mark.integration

FAST = {
    "resnet18": True,  # plain residual
    "regnety_002": True,  # grouped convolutions and squeeze-and-excite
    "mobilenetv2_100": True,  # depthwise convolutions
    "resnest14d": True,  # split attention
    "mixer_s32_224": True,  # channels and tokens change places; layer normalisation
    "convnextv2_atto": False,  # a mean over channels, which the independent reference cannot follow
    "cifar_resnet20": True,  # a shortcut that is padded with zeros: a graph module
    "shuffle_net": True,  # channel shuffles
    "imdn_x4": True,  # unequal splits
}


@pytest.mark.parametrize("name", FAST)
def test_a_network_is_cut_to_half_of_every_width(name: str):
    """Everything that the bench asks of a network: equal to both references, small enough, trains, comes back."""
    row = coverage.check((name, 0))
    assert row["passed"], row
    assert (row["zeroed"] is not None) == FAST[name]
    assert row["varies"] > coverage.VARIES
    assert not row["unsupported"]


def test_the_networks_are_those_that_were_asked_for():
    """A family that is quietly left out."""
    assert (len(TIMM), len(OTHERS), len(set(ALL))) == (40, 4, 44)


def test_the_independent_reference_sees_one_wrong_channel():
    """It must fail a model that keeps another channel than it says."""
    torch.manual_seed(0)
    model = build_network("resnet18").eval()
    inputs = (torch.rand(1, 3, 64, 64),)
    randomise(model, (torch.rand(2, 3, 64, 64),))
    graph = trace(model, inputs)
    assert is_exact(graph)
    name = "layer1.0.conv1.weight"
    outputs = []
    for kept in ([0, 1, 2, 3], [0, 1, 2, 4]):
        dense = build_network("resnet18").eval()
        dense.load_state_dict(model.state_dict())
        zero_producers(dense, graph, {name: kept})
        with torch.no_grad():
            outputs.append(dense(*inputs))
    assert relative_difference(*outputs) > 100 * coverage.TOLERANCE


def test_statistics_are_taken_near_those_of_the_inputs():
    """Far from them a deep network gives one output for every input, and the comparison would prove nothing."""
    model = build_network("cifar_resnet20").eval()
    randomise(model, inputs_for("cifar_resnet20", model, batch=8))
    with torch.no_grad():
        outputs = model(coverage.blotches(torch.Size((4, 3, 32, 32))))
    assert outputs.std(0).max() > 0.05 * outputs.abs().max()
    assert not model.training
    assert all(module.momentum == 0.1 for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
