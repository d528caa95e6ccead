"""PVCNN and its baselines: golden logits, published counts, and what voxels, neighbours and gradients must obey."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from within.core import Macs, prune, trace
from within.core.errors import WithinError
from within.perception3d.pvcnn import neighbours
from within.perception3d.pvcnn.frustum import HEADINGS, SIZES, FrustumNetwork, FrustumOutput, foreground
from within.perception3d.pvcnn.neighbours import ball_query, farthest_points, interpolate
from within.perception3d.pvcnn.published_layout import load_weights, our_name
from within.perception3d.pvcnn.pv_conv import PVConv
from within.perception3d.pvcnn.registry import build, names, variant
from within.perception3d.pvcnn.s3dis import RoomPVCNNPlusPlus
from within.perception3d.pvcnn.shapenet import PartPointNetPlusPlus, PartPVCNN
from within.perception3d.pvcnn.voxel_grid import devoxelise, grid_coordinates, voxelise


def test_logits_of_the_public_code(data, tmp_path):
    golden = load_file(data("perception3d") / "golden" / "pvcnn_s3dis_c0p125_seed1.safetensors")
    state = {name.removeprefix("state."): value for name, value in golden.items() if name.startswith("state.")}
    torch.save({"model": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "published.pth.tar")
    model = build("pvcnn_s3dis_c0p125").eval()
    load_weights(model, tmp_path / "published.pth.tar")
    with torch.no_grad():
        torch.testing.assert_close(model(golden["input"]), golden["logits"], rtol=1e-5, atol=1e-5)
    with pytest.raises(WithinError, match="another architecture"):
        load_weights(build("pvcnn_s3dis_c0p25"), tmp_path / "published.pth.tar")
    state["classifier.5.bias"] = state.pop(next(iter(state))) * torch.nan
    torch.save(state, tmp_path / "broken.pth")
    with pytest.raises(WithinError, match="NaN or infinity"):
        load_weights(model, tmp_path / "broken.pth")


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("pvcnn_shapenet_c1", "point_features.0.voxel_layers.6.fc.2.weight",
         "point_layers.0.voxel_layers.6.gate.2.weight"),
        ("pvcnn_plus_plus_s3dis_c1", "sa_layers.0.1.point_features.layers.0.weight",
         "pyramid.down_blocks.0.1.point_layers.0.weight"),
        ("pvcnn_plus_plus_s3dis_c1", "sa_layers.1.3.mlps.0.layers.4.bias", "pyramid.down.1.mlps.0.4.bias"),
        ("pvcnn_plus_plus_s3dis_c1", "sa_layers.3.mlps.0.layers.0.bias", "pyramid.down.3.mlps.0.0.bias"),
        ("pvcnn_plus_plus_s3dis_c1", "fp_layers.2.2.voxel_layers.3.weight",
         "pyramid.up_blocks.2.1.voxel_layers.3.weight"),
        ("pvcnn_plus_plus_s3dis_c1", "fp_layers.3.0.mlp.layers.6.weight", "pyramid.up.3.mlp.6.weight"),
        ("pointnet_plus_plus_shapenet_msg", "sa_layers.1.mlps.1.layers.3.weight", "pyramid.down.1.mlps.1.3.weight"),
        ("frustum_pvcnn_e", "inst_seg_net.point_features.2.point_features.layers.0.bias",
         "mask.point_layers.2.point_layers.0.bias"),
        ("frustum_pvcnn_e", "center_reg_net.features.2.layers.1.running_var", "centre.point_layers.7.running_var"),
        ("frustum_pvcnn_e", "center_reg_net.regression.0.0.weight", "centre.cloud_layers.0.0.weight"),
        ("frustum_pvcnn_e", "box_est_net.classifier.2.bias", "box.cloud_layers.2.bias"),
        ("frustum_pointnet_plus_plus", "inst_seg_net.fp_layers.1.mlp.layers.3.bias", "mask.pyramid.up.1.mlp.3.bias"),
        ("frustum_pointnet_plus_plus", "box_est_net.features.2.mlps.0.layers.6.weight",
         "box.pyramid.down.2.mlps.0.6.weight"),
    ],
)  # fmt: skip
def test_names_of_published_tensors(name, theirs, ours):
    assert our_name(theirs) == ours
    assert our_name(ours) == ours
    with torch.device("meta"):
        assert ours in build(name).state_dict()


@pytest.mark.parametrize("name", names())
def test_published_parameters(name):
    with torch.device("meta"):
        assert sum(value.numel() for value in build(name).parameters()) == variant(name).parameters


@pytest.mark.parametrize("name", ["pvcnn_s3dis_c0p125", "pointnet_shapenet", "frustum_pvcnn_e"])
def test_published_multiply_accumulates(name):
    with torch.device("meta"):
        graph = trace(build(name), variant(name).example_inputs())
    assert Macs()(graph) == variant(name).macs


def test_parts_of_the_frustum_network():
    """Segmentation, centre and box of PVCNN-E."""
    network = build("frustum_pvcnn_e")
    parts = (network.mask, 2_610_754), (network.centre, 151_683), (network.box, 595_899)
    for part, count in parts:
        assert sum(value.numel() for value in part.parameters()) == count


def test_a_network_with_voxels_is_pruned_exactly():
    """Widths inside the voxel branch, of the cloud and of the classifier: cut or masked, the scores are the same."""
    clouds = (torch.rand(1, 9, 256),)
    result = prune(build("pvcnn_s3dis_c0p125", resolution=0.25).eval(), clouds, widths=0.5)
    assert result.certificate.masked_slim_error < 1e-5
    assert sum(value.numel() for value in result.model.parameters()) < 43_365 / 2


@pytest.mark.parametrize("name", ["pvcnn_s3dis_c0p125", "pvcnn_shapenet_c0p125"])
def test_scores_follow_the_points(name):
    """Another order of the points gives the same scores in that order."""
    network, (cloud,) = build(name).eval(), variant(name).example_inputs()
    cloud = torch.rand(2, cloud.shape[1], 300)
    order = torch.randperm(300)
    with torch.no_grad():
        torch.testing.assert_close(network(cloud[:, :, order]), network(cloud)[:, :, order], rtol=1e-4, atol=1e-5)


def test_unknown_names_and_arguments():
    with pytest.raises(WithinError, match="did you mean"):
        build("pvcnn_s3dis")
    with pytest.raises(WithinError, match="no argument widht"):
        build("pvcnn_s3dis_c1", widht=0.5)


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


def test_voxels_and_points_are_adjoint():
    """<voxelise(x), g> is the sum over points of x times g of its cell / count; devoxelising spreads by its shares."""
    places = grid_coordinates(torch.rand(2, 3, 30, dtype=torch.float64), 4)
    features = torch.randn(2, 3, 30, dtype=torch.float64, requires_grad=True)
    grid = torch.randn(2, 3, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    counts = voxelise(torch.ones(2, 1, 30, dtype=torch.float64), places, 4)
    (voxelise(features, places, 4) * grid.detach()).sum().backward()
    cells = places.round().long()
    for batch in range(2):
        x, y, z = cells[batch]
        number = (cells[batch][:, :, None] == cells[batch][:, None]).all(0).sum(1)
        torch.testing.assert_close(features.grad[batch], grid.detach()[batch][:, x, y, z] / number)
    assert set(counts.unique().tolist()) <= {0.0, 1.0}
    weights = torch.randn(2, 3, 30, dtype=torch.float64)
    (devoxelise(grid, places) * weights).sum().backward()
    torch.testing.assert_close(grid.grad.sum((2, 3, 4)), weights.sum(2))  # shares of a point sum to 1


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


@pytest.mark.parametrize(("radius", "count"), [(0.05, 3), (0.3, 8), (2.0, 250)])
def test_neighbours_are_the_same_compiled_and_in_torch(radius, count):
    """What runs on a CPU against what runs elsewhere, and against the definition."""
    points = torch.rand(2, 3, 200)
    centres = points[:, :, :40]
    assert torch.equal(neighbours._farthest_in_torch(points, 50), farthest_points(points, 50))
    found = ball_query(centres, points, radius, count)
    assert torch.equal(neighbours._in_reach_in_torch(centres, points, radius, count), found)
    squares = (centres[:, :, :, None] - points[:, :, None]).square().sum(1)
    for centre in range(40):
        near = (squares[0, centre] < radius**2).nonzero().flatten()[:count].tolist()
        assert found[0, centre].tolist() == near + near[:1] * (count - len(near))


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
