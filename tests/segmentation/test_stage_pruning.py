"""Pruning by stages: the study's rule through the ordinary `prune`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from within.core import trace
from within.core.errors import WithinError
from within.core.pruning.importance import filter_l1
from within.segmentation.models import SwiftNetPyramid, SwiftNetSingleScale, build
from within.segmentation.stage_pruning import prune_stages

EXAMPLE = (torch.zeros(1, 3, 128, 128),)


def pyramid() -> SwiftNetPyramid:
    torch.manual_seed(0)
    return SwiftNetPyramid(5, depth=(2, 1, 1, 1), width=8, features=12).eval()


def test_the_stem_goes_with_the_first_stage_and_the_decoder_stays():
    model = prune_stages(pyramid(), EXAMPLE, (1, 2)).model
    assert model.encoder.stem.conv.out_channels == 4
    assert [stage[0].conv2.out_channels for stage in model.encoder.stages] == [4, 8, 32, 64]
    assert model.encoder.stages[2][0].conv1.in_channels == 8
    assert all(level.num_features == 4 for level in model.encoder.stem.norm.levels)
    assert [lateral.in_channels for lateral in model.laterals] == [4, 8, 32, 64]
    assert {lateral.out_channels for lateral in model.laterals} == {12}
    assert model.logits.conv.out_channels == 5


def test_counts_of_the_published_cuts():
    for stages, parameters in (((1, 2), 11_111_279), ((1, 2, 3, 4), 3_357_039)):
        pruned = prune_stages(build("swiftnet_rn18").eval(), (torch.zeros(1, 3, 64, 128),), stages).model
        assert sum(value.numel() for value in pruned.parameters()) == parameters


def test_the_most_important_channels_stay_in_order():
    model = pyramid()
    scores = filter_l1(trace(model, EXAMPLE))["encoder.stages.2.0.conv1.weight"]
    expected = model.encoder.stages[2][0].conv1.weight.abs().sum((1, 2, 3)).detach().double().numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    kept = np.sort(np.argsort(-expected, kind="stable")[:16])
    pruned = prune_stages(model, EXAMPLE, (3,)).model.encoder.stages[2][0].conv1.weight
    torch.testing.assert_close(pruned, model.encoder.stages[2][0].conv1.weight[kept])


def test_a_coupled_group_is_scored_by_all_its_filters():
    model = pyramid()
    scores = filter_l1(trace(model, EXAMPLE))["encoder.stem.conv.weight"]
    filters = [model.encoder.stem.conv, *(block.conv2 for block in model.encoder.stages[0])]
    expected = sum(conv.weight.abs().sum((1, 2, 3)) for conv in filters).detach().double().numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_bad_stages_are_refused():
    with pytest.raises(WithinError, match="no stage 5"):
        prune_stages(pyramid(), EXAMPLE, (5,))
    mobile = SwiftNetSingleScale(3, depth="mobilenet_v2", features=12).eval()
    with pytest.raises(WithinError, match="ResNet"):
        prune_stages(mobile, EXAMPLE, (4,))
