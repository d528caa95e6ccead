"""SPVCNN: published size, points and voxels that agree, empty neighbours, and a real scan."""

from __future__ import annotations

import itertools

import pytest
import torch

from within.core.errors import WithinError
from within.perception3d.data.point_files import read_points
from within.perception3d.pvcnn.sparse_points import PointPlaces, mean_rows, points_on, voxels_of, whole_cells
from within.perception3d.pvcnn.spvcnn import SPVCNN


def some_places(points: int = 60, clouds: int = 2, reach: float = 7.0, seed: int = 0) -> PointPlaces:
    generator = torch.Generator().manual_seed(seed)
    cloud = torch.arange(points) * clouds // points
    return PointPlaces(reach * torch.rand(points, 3, generator=generator), cloud, clouds)


def test_published_size():
    """21.8 M; 21.7 M without the branch of the points, which is MinkowskiUNet."""
    assert sum(value.numel() for value in SPVCNN().parameters()) == 21_778_003
    assert sum(value.numel() for value in SPVCNN(point_branch=False).parameters()) == 21_723_315


def test_voxels_hold_means():
    places = some_places()
    features = torch.randn(60, 3)
    voxels, own = voxels_of(features, places, multiple=4)
    assert voxels.shape == (8, 8, 8)
    where = torch.cat([places.cloud[:, None], places.coordinates.floor().long()], dim=1)
    assert torch.equal(voxels.indices[own].long(), where)
    for row in range(len(voxels)):
        torch.testing.assert_close(voxels.features[row], features[own == row].mean(0))


def test_interpolation_uses_the_occupied_neighbours_only():
    """Weights sum to 1; where all eight are there linear functions come back; a lone voxel gives its own features."""
    places = some_places()
    voxels, own = voxels_of(torch.randn(60, 2), places)
    on = points_on(places, voxels, 1)
    assert torch.equal(on.own, own)
    torch.testing.assert_close(on.shares.sum(1), torch.ones(60))
    index = {tuple(place): row for row, place in enumerate(voxels.indices.tolist())}
    for point in range(10):
        low = places.coordinates[point].floor()
        total, found = 0.0, torch.zeros(2)
        for corner in itertools.product((0, 1), repeat=3):
            place = (int(places.cloud[point]), *(int(a) + b for a, b in zip(low, corner, strict=True)))
            if place in index:
                part = places.coordinates[point] - low
                share = float(torch.stack([part[a] if c else 1 - part[a] for a, c in enumerate(corner)]).prod())
                total, found = total + share, found + share * voxels.features[index[place]]
        torch.testing.assert_close(on.to_points(voxels.features)[point], found / total, rtol=1e-4, atol=1e-5)
    lone = PointPlaces(torch.tensor([[3.7, 2.2, 5.9]]), torch.zeros(1, dtype=torch.long), 1)
    one, _ = voxels_of(torch.ones(1, 2), lone)
    torch.testing.assert_close(points_on(lone, one, 1).to_points(one.features), torch.ones(1, 2))


def test_interpolation_of_a_full_grid_is_exact_for_linear_functions():
    cells = torch.stack(torch.meshgrid(*[torch.arange(4.0)] * 3, indexing="ij"), dim=-1).reshape(-1, 3)
    grid = PointPlaces(cells, torch.zeros(64, dtype=torch.long), 1)
    voxels, _ = voxels_of(cells, grid)
    inside = PointPlaces(2.99 * torch.rand(30, 3), torch.zeros(30, dtype=torch.long), 1)
    torch.testing.assert_close(points_on(inside, voxels, 1).to_points(voxels.features), inside.coordinates)


def test_points_and_voxels_are_adjoint_up_to_counts():
    """<mean in voxels(x), y> = <x, y of the own voxel / count>: the gradient of the mean."""
    places = some_places()
    features = torch.randn(60, 2, dtype=torch.float64, requires_grad=True)
    _, own = voxels_of(features.detach().float(), places)
    count = int(own.max()) + 1
    assert torch.autograd.gradcheck(lambda x: mean_rows(x, own, count), (features,))
    weights = torch.randn(count, 2, dtype=torch.float64)
    mean_rows(features, own, count).mul(weights).sum().backward()
    torch.testing.assert_close(features.grad, (weights / own.bincount()[:, None])[own])


def test_scores_follow_the_points_and_clouds_keep_apart():
    """Another order of the points gives the same scores; another cloud beside changes nothing."""
    torch.manual_seed(0)
    network = SPVCNN(5, width=0.25).eval()
    places, features = some_places(80, 2, 30.0), torch.randn(80, 4)
    with torch.no_grad():
        scores = network(features, places)
        order = torch.randperm(80)
        other = network(features[order], PointPlaces(places.coordinates[order], places.cloud[order], 2))
        first = places.cloud == 0
        alone = network(features[first], PointPlaces(places.coordinates[first], places.cloud[first], 1))
    torch.testing.assert_close(other, scores[order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone, scores[first], rtol=1e-4, atol=1e-5)


def test_a_real_scan_forward_and_backward(data):
    scan = torch.from_numpy(read_points(data("perception3d") / "semantickitti" / "000000.bin"))
    scan = scan[scan[:, :2].norm(dim=1) < 12][::4]
    places = PointPlaces(whole_cells(scan[:, :3], 0.1), torch.zeros(len(scan), dtype=torch.long), 1)
    torch.manual_seed(0)
    network = SPVCNN(width=0.125)
    scores = network(scan, places)
    assert scores.shape == (len(scan), 19)
    scores.square().mean().backward()
    for name, value in network.named_parameters():
        assert value.grad is not None, name
        assert bool(torch.isfinite(value.grad).all()), name
        assert bool(value.grad.any()), name


def test_faults_are_named():
    none = PointPlaces(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), 1)
    with pytest.raises(WithinError, match="no points"):
        voxels_of(torch.zeros(0, 4), none)
    below = PointPlaces(torch.tensor([[0.0, -1.0, 0.0]]), torch.zeros(1, dtype=torch.long), 1)
    with pytest.raises(WithinError, match="below 0"):
        voxels_of(torch.zeros(1, 4), below)
    places = some_places(10)
    voxels, _ = voxels_of(torch.zeros(10, 1), places)
    elsewhere = PointPlaces(places.coordinates + 3, places.cloud, 2)
    with pytest.raises(WithinError, match="lie in no voxel"):
        points_on(elsewhere, voxels, 1)
