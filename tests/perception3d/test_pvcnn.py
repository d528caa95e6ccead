"""PVCNN and its baselines: golden logits, published counts, and what voxels, neighbours and gradients must obey."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from within.core.errors import WithinError
from within.perception3d.pvcnn.frustum import HEADINGS, SIZES, FrustumNetwork, FrustumOutput, foreground
from within.perception3d.pvcnn.neighbours import ball_query, farthest_points, interpolate
from within.perception3d.pvcnn.pv_conv import PVConv
from within.perception3d.pvcnn.s3dis import RoomPointNet, RoomPVCNN, RoomPVCNNPlusPlus
from within.perception3d.pvcnn.shapenet import PartPointNetPlusPlus, PartPVCNN
from within.perception3d.pvcnn.voxel_grid import devoxelise, grid_coordinates, voxelise

THEIRS = (
    (r"^point_features\.(\d)\.point_features\.layers\.", r"point_layers.\1.point_layers."),
    (r"^point_features\.", r"point_layers."),
    (r"^cloud_features\.", r"cloud_layers."),
    (r"^classifier\.(\d)\.layers\.", r"classifier.\1."),
)


def test_logits_of_the_public_code(data):
    golden = load_file(data("perception3d") / "golden" / "pvcnn_s3dis_c0p125_seed1.safetensors")
    state = {}
    for name, value in golden.items():
        if name.startswith("state."):
            name = name.removeprefix("state.")
            for pattern, replacement in THEIRS:
                name = re.sub(pattern, replacement, name)
            state[name] = value
    model = RoomPVCNN(width=0.125).eval()
    model.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(model(golden["input"]), golden["logits"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "arguments", "count"),
    [
        *((RoomPVCNN, {"width": width}, count)
          for width, count in ((1, 2_572_493), (0.5, 650_349), (0.25, 166_205), (0.125, 43_365))),
        (RoomPointNet, {}, 1_174_669),
        (RoomPVCNNPlusPlus, {}, 13_709_837),
        (RoomPVCNNPlusPlus, {"width": 0.5}, 3_436_429),
        *((PartPVCNN, {"width": width}, count)
          for width, count in ((1, 4_200_434), (0.5, 1_058_578), (0.25, 268_898), (0.125, 69_370))),
        (PartPVCNN, {"voxels": False}, 2_520_050),
        (PartPointNetPlusPlus, {"scales": "one"}, 1_409_202),
        (PartPointNetPlusPlus, {}, 1_757_726),
        (FrustumNetwork, {"kind": "pointnet"}, 1_641_472),
        (FrustumNetwork, {"kind": "pointnet++"}, 1_902_368),
        (FrustumNetwork, {"kind": "pvcnn_e"}, 3_358_336),
    ],
)  # fmt: skip
def test_published_parameters(kind, arguments, count):
    assert sum(value.numel() for value in kind(**arguments).parameters()) == count


def test_every_network_gives_scores_of_every_point():
    cloud = torch.rand(2, 22, 600)
    with torch.no_grad():
        assert PartPVCNN(width=0.125).eval()(cloud).shape == (2, 50, 600)
        assert PartPointNetPlusPlus(width=0.125).eval()(cloud).shape == (2, 50, 600)
        assert PartPointNetPlusPlus(width=0.125, scales="one").eval()(cloud).shape == (2, 50, 600)
        assert RoomPVCNNPlusPlus(width=0.25).eval()(torch.rand(1, 9, 1100)).shape == (1, 13, 1100)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(2, 6), st.booleans())
def test_voxels_hold_means_and_lie_in_the_grid(seed, resolution, normalise):
    """Would catch x, y, z in another order, a sum instead of a mean, and points outside the grid."""
    generator = torch.Generator().manual_seed(seed)
    points, features = torch.rand(2, 3, 40, generator=generator) - 0.5, torch.randn(2, 3, 40, generator=generator)
    places = grid_coordinates(points, resolution, normalise=normalise)
    assert float(places.min()) >= 0
    assert float(places.max()) <= resolution - 1
    grid = voxelise(features, places, resolution)
    for batch in range(2):
        cells = places[batch].round().long().T
        for cell in {tuple(place) for place in cells.tolist()}:
            inside = (cells == torch.tensor(cell)).all(1)
            torch.testing.assert_close(grid[(batch, slice(None), *cell)], features[batch][:, inside].mean(1))


def test_devoxelising_is_exact_for_linear_functions():
    """Trilinear interpolation gives back what is linear in x, y and z; on the border too."""
    axes = torch.meshgrid(*[torch.arange(4.0)] * 3, indexing="ij")
    grid = torch.stack([axes[0] + 2 * axes[1] - axes[2], axes[2]])[None]
    places = 3 * torch.rand(1, 3, 50)
    places[0, :, :3] = torch.tensor([[0.0, 3.0, 1.0], [3.0, 0.0, 2.0], [1.0, 3.0, 3.0]])
    x, y, z = places[0]
    torch.testing.assert_close(devoxelise(grid, places)[0], torch.stack([x + 2 * y - z, z]))


def test_gradients_of_voxels_in_double_precision():
    places = grid_coordinates(torch.rand(1, 3, 12, dtype=torch.float64), 3)
    features = torch.randn(1, 2, 12, dtype=torch.float64, requires_grad=True)
    grid = torch.randn(1, 2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: voxelise(x, places, 3), (features,))
    assert torch.autograd.gradcheck(lambda x: devoxelise(x, places), (grid,))


@pytest.mark.parametrize("normalise", [True, False])
def test_clouds_of_one_place_are_no_nan(normalise):
    """The public code divides 0 by 0 there."""
    layer = PVConv(2, 4, 4, normalise=normalise).eval()
    assert bool(torch.isfinite(layer(torch.randn(1, 2, 5), torch.ones(1, 3, 5))).all())
    assert bool(torch.isfinite(layer(torch.randn(1, 2, 1), torch.zeros(1, 3, 1))).all())


def test_no_gradient_reaches_coordinates():
    points = torch.rand(1, 3, 8, requires_grad=True)
    PVConv(3, 4, 4).eval()(torch.randn(1, 3, 8), points).sum().backward()
    assert points.grad is None


def test_farthest_points_are_farthest():
    points = torch.rand(2, 3, 30)
    chosen = farthest_points(points, 6)
    for batch in range(2):
        assert int(chosen[batch, 0]) == 0
        for place in range(1, 6):
            before = points[batch][:, chosen[batch, :place]]
            distance = (points[batch][:, :, None] - before[:, None]).norm(dim=0).amin(1)
            assert int(distance.argmax()) == int(chosen[batch, place])
    with pytest.raises(WithinError, match="of 30 points"):
        farthest_points(points, 31)


def test_ball_queries_take_the_first_in_reach_and_repeat_the_first():
    points = torch.tensor([[[0.0, 0.5, 2.0, 0.1], [0.0] * 4, [0.0] * 4]])
    centres = torch.tensor([[[0.0, 2.0, 9.0], [0.0] * 3, [0.0] * 3]])
    found = ball_query(centres, points, 1.0, 3)
    assert found.tolist() == [[[0, 1, 3], [2, 2, 2], [0, 0, 0]]]
    assert ball_query(centres, points, 1.0, 6).tolist()[0][0] == [0, 1, 3, 0, 0, 0]


def test_interpolation_keeps_what_the_centres_have():
    centres, features = torch.rand(1, 3, 7), torch.randn(1, 4, 7)
    torch.testing.assert_close(interpolate(centres, centres, features), features, rtol=1e-4, atol=1e-4)
    constant = interpolate(torch.rand(1, 3, 9), centres, torch.ones(1, 4, 7))
    torch.testing.assert_close(constant, torch.ones(1, 4, 9))


def test_points_of_the_mask_are_drawn_evenly_about_their_mean():
    """Would catch background among the points, and an object of few points that is drawn unevenly."""
    points = torch.rand(2, 3, 20)
    mask = torch.zeros(2, 20, dtype=torch.bool)
    mask[0, [3, 5, 8]] = True
    for generator in (None, torch.Generator().manual_seed(0)):
        drawn, mean = foreground(points, mask, 10, generator)
        torch.testing.assert_close(mean[0], points[0][:, mask[0]].mean(1))
        back = drawn[0] + mean[0][:, None]
        counts = [int((back - points[0][:, [place]]).norm(dim=0).lt(1e-6).sum()) for place in (3, 5, 8)]
        assert sum(counts) == 10
        assert max(counts) - min(counts) <= 1
        assert not drawn[1].any()
        assert not mean[1].any()


def test_boxes_come_from_the_best_bin_and_template():
    network = FrustumNetwork("pointnet", width=0.125)
    headings, sizes = torch.zeros(1, HEADINGS), torch.zeros(1, len(SIZES))
    headings[0, 3], sizes[0, list(SIZES).index("Cyclist")] = 1, 1
    residuals = torch.zeros(1, len(SIZES), 3)
    residuals[0, list(SIZES).index("Cyclist")] = torch.tensor([0.1, 0.0, 0.0])
    centre = torch.tensor([[1.0, 2.0, 3.0]])
    output = FrustumOutput(torch.zeros(1, 2, 4), centre, centre, headings, 0.5 * headings, sizes, residuals)
    length, width, height = SIZES["Cyclist"]
    expected = [1.0, 2.0, 3.0, 1.1 * length, width, height, (3 + 0.25) * 2 * torch.pi / HEADINGS]
    torch.testing.assert_close(network.boxes(output)[0], torch.tensor(expected))
    with pytest.raises(WithinError, match="no frustum network"):
        FrustumNetwork("pointnet+")
