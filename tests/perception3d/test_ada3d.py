"""Ada3D: what is dropped is what matters least, nothing else changes, and costs are counted as they are."""

from __future__ import annotations

import pytest
import torch

from within.core import Macs, trace
from within.core.errors import WithinError
from within.perception3d.accounting import pass_cost
from within.perception3d.ada3d.diagnostics import drop_counts, pixels_in_boxes
from within.perception3d.ada3d.drop_rate_solver import pass_costs, solve_rates
from within.perception3d.ada3d.filtering import Filter, kept, scores
from within.perception3d.ada3d.importance_loss import ImportanceTarget, importance_target
from within.perception3d.ada3d.thinning import Ada3D, DropRates, drop_rates
from within.perception3d.bev_pruning import DensePart, prune_widths, remove_convolutions
from within.perception3d.heatmap import MapGrid
from within.perception3d.models.bev_map import MaskedMap, dense, occupied
from within.perception3d.models.folding import dense_bev, folded
from within.perception3d.named_detector import build, map_grid
from within.perception3d.sparse import from_dense
from within.perception3d.synthetic_lidar import synthetic_frame
from within.perception3d.training_scenes import network_inputs

SMALL = {"norm": "spatial_sparse", "blocks": [[2, 16, 1, 2, 12]], "head_width": 8, "widths": [4, 8, 8], "top_width": 8}
RATES = {"voxels": {"1": 0.75, "2": 0.6}, "pixels": {"0": 0.8, "2": 0.5}}


@pytest.fixture(scope="module")
def inputs():
    return network_inputs(
        [synthetic_frame(3, 0).points, synthetic_frame(3, 1).points], build("center_point_small").grid
    )


def network(seed=0, **arguments):
    torch.manual_seed(seed)
    return build("center_point_small", **{**SMALL, **arguments}).eval()


def largest_difference(one, two):
    return max(
        float((dense(task[name]) - dense(other[name])).detach().abs().max())
        for task, other in zip(one, two, strict=True)
        for name in task
    )


@pytest.mark.parametrize("reach", ["grow", "stay", ["grow", "stay", "stay"]])
def test_sparse_equals_masked_dense(inputs, reach):
    """Also with places dropped, in training as in evaluation."""
    thinned = network(reach=reach, drop_rates=RATES).double()
    for training in (False, True):
        thinned.train(training)
        found = []
        for execution in ("masked", "sparse"):
            thinned.detector.execution = execution
            found.append(thinned(inputs[0].double(), *inputs[1:]))
        assert largest_difference(*found) < 1e-10


def test_dense_with_spatial_sparse_norm_equals_growing_sparse(inputs):
    """Up to the head, whose bias is added everywhere when it is computed densely."""
    detector = network(execution="sparse")
    sparse_map = detector.bev(detector.seen_from_above(*inputs))
    detector.execution = "dense"
    torch.testing.assert_close(dense(sparse_map), detector.bev(detector.seen_from_above(*inputs)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("execution", ["dense", "masked", "sparse"])
def test_norms_fold_exactly(inputs, execution):
    detector = network(execution=execution, reach="stay")
    detector.train()
    detector(*inputs)
    detector.eval()
    with torch.no_grad():
        assert largest_difference(detector(*inputs), folded(detector)(*inputs)) < 1e-4
        double = inputs[0].double(), *inputs[1:]
        moved = folded(detector).double()  # what was packed for sparse maps moves along
        assert largest_difference(detector.double()(*double), moved(*double)) < 1e-4


@pytest.mark.parametrize("least", [0.02, 0.12, 0.999])
def test_boxes_where_scores_are_high_are_the_same(inputs, least):
    """The heat map everywhere, and boxes at every place above the least score, of all classes; fewer products."""
    thinned = network(reach="stay", execution="sparse", drop_rates=RATES)
    with torch.no_grad():
        thinned.detector.head.tasks[0]["heatmap"].output.weight.mul_(30)
        whole, part = (folded(thinned, least_score=each) for each in (None, least))
        (expected,), (found,) = whole(*inputs), part(*inputs)
    torch.testing.assert_close(found["heatmap"].features, expected["heatmap"].features)
    high = dense(expected["heatmap"]).sigmoid().amax(1) > least
    high &= occupied(expected["heatmap"])
    assert (occupied(found["dim"]) | ~high).all()
    for name in ("center", "center_z", "dim", "rot"):
        places = occupied(found[name])
        assert int(places.sum()) < 1.1 * int(high.sum()) + 1
        one, two = (dense(each[name]).movedim(1, -1)[places] for each in (found, expected))
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
    costs = [pass_cost(each, *inputs).macs["head"] for each in (whole, part)]
    assert costs[1] <= costs[0] * (0.7 if least > 0.9 else 1)


def test_the_share_that_stays_is_exact_and_the_most_important():
    generator = torch.Generator().manual_seed(0)
    importance = torch.rand(2, 3, 20, 24, generator=generator)
    mask = torch.rand(2, 20, 24, generator=generator) < 0.3
    pixels = from_dense(importance, mask)
    for how in (Filter(0.4, density=False), Filter(0.4), Filter(0.4, window=16, exponent=0.2)):
        rows, value = kept(pixels, how), scores(pixels, how)
        assert torch.equal(rows, rows.unique())
        stays = torch.zeros(len(pixels), dtype=torch.bool)
        stays[rows] = True
        for sample in range(2):
            own = pixels.indices[:, 0] == sample
            assert int((stays & own).sum()) == int(0.4 * int(mask[sample].sum()))
            assert value[own & stays].min() >= value[own & ~stays].max()
    assert len(kept(pixels, Filter(1.0))) == len(pixels)
    assert len(kept(pixels, Filter(1e-6))) == 2  # at least one of each map
    assert not len(kept(from_dense(importance, torch.zeros_like(mask)), Filter(0.5)))


def test_density_is_that_of_the_window():
    mask = torch.rand(1, 20, 24, generator=torch.Generator().manual_seed(0)) < 0.3
    pixels = from_dense(torch.ones(1, 1, 20, 24), mask)
    for (_, row, column), value in zip(pixels.indices.tolist(), scores(pixels, Filter(0.5)).tolist(), strict=True):
        top, left = row // 8 * 8, column // 8 * 8
        share = float(mask[0, top : top + 8, left : left + 8].float().mean())
        assert value == pytest.approx((share + 1e-4) ** -0.15)


def test_density_lets_lonely_pixels_stay():
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[0, :8, :8] = True
    mask[0, 12, 12] = True
    importance = torch.full((1, 1, 16, 16), 0.5)
    importance[0, 0, 12, 12] = 0.4
    pixels = from_dense(importance, mask)
    lonely = len(pixels) - 1
    assert lonely not in kept(pixels, Filter(0.5, density=False))
    assert lonely in kept(pixels, Filter(0.5))


def test_every_pixel_that_is_kept_was_there(inputs):
    thinned = network(reach="stay", execution="sparse", drop_rates=RATES)
    with torch.no_grad():
        _, choices = thinned.run(*inputs)
        plain = thinned.run(*inputs, dropping=False)[1]
    assert [(each.kind, each.at) for each in choices] == [("3d", 1), ("3d", 2), ("2d", 0), ("2d", 2)]
    assert all(torch.equal(each.before, each.after) for each in plain)
    keeps = [0.75, 0.6, 0.8, 0.5]
    for choice, keep in zip(choices, keeps, strict=True):
        for row in range(2):
            assert int(choice.after[row].sum()) == int(keep * int(choice.before[row].sum()))


@pytest.mark.parametrize("execution", ["masked", "sparse"])
def test_importance_at_occupied_places_alone(inputs, execution):
    """Equal to the dense predictor where everything is occupied, and zero at empty places."""
    thinned = network(reach="stay", execution=execution, drop_rates=RATES, occupied_only=True)
    with torch.no_grad():
        for choice in thinned.importance(*inputs):
            assert not choice.importance.movedim(1, -1)[~choice.before].any()
            assert choice.importance.movedim(1, -1)[choice.before].all()
        full = torch.randn(1, 16, 9, 7)
        one = thinned.predictor.of_map(2, MaskedMap(full, torch.ones(1, 9, 7, dtype=torch.bool)))
        thinned.predictor.occupied_only = False
        torch.testing.assert_close(one.dense(), thinned.predictor.of_map(2, full).dense())
    cost = [pass_cost(network(reach="stay", execution="sparse", drop_rates=RATES, occupied_only=only), *inputs)
            for only in (False, True)]  # fmt: skip
    assert cost[1].macs["predictor"] < 0.3 * cost[0].macs["predictor"]


def test_the_predictor_never_reaches_the_detector(inputs):
    thinned = network(reach="stay", execution="sparse", drop_rates=RATES).train()
    choices = thinned.importance(*inputs)
    torch.stack([each.importance.mean() for each in choices]).sum().backward()
    assert all(parameter.grad is None for parameter in thinned.detector.parameters())
    assert all(parameter.grad is not None for parameter in thinned.predictor.parameters())


def test_published_sizes_of_the_predictor():
    rates = {"voxels": {1: 0.75, 3: 0.75}, "pixels": {1: 0.5, 3: 0.5}}
    predictor = build("center_point_kitti", drop_rates=rates).predictor
    assert sum(each.numel() for each in predictor.shared.parameters()) == 454
    assert sum(each.numel() for each in predictor.parameters()) == 454 + 3328


def test_dense_costs_are_those_of_the_graph(inputs):
    detector = network(norm="batch")
    one = (*(each[: int(inputs[3][0])] for each in inputs[:3]), inputs[3][:1])
    cost = pass_cost(detector, *one)
    shape = detector.seen_from_above(*one).shape
    assert cost.macs["2d"] + cost.macs["head"] == Macs()(trace(dense_bev(detector), (torch.zeros(shape),)))


def test_a_full_sparse_map_costs_what_the_dense_one_does():
    """But for the border, where a dense convolution multiplies padding as well."""
    from within.perception3d.models.bev_layers import BevConvolution

    layer = BevConvolution(3, 5, reach="stay")
    found = from_dense(torch.ones(1, 3, 6, 7))
    assert layer.rulebook(found).pairs == 9 * 42 - 2 * 3 * (6 + 7) + 4


def test_dropping_lowers_every_part_and_rates_are_solved_for(inputs):
    thinned = network(reach="stay", execution="sparse", drop_rates=RATES)
    frame = synthetic_frame(3, 2)
    sample = network_inputs([frame.points], thinned.detector.grid), (torch.zeros(1, 1, 7), torch.full((1, 1), -1))

    def loss(candidate, given):
        """Stands for a loss: what is gone."""
        return 1 - sum(int(each.after.sum()) for each in candidate.run(*given[0])[1] or ()) / 1e6

    bare = pass_cost(thinned.detector, *sample[0])
    dropped = pass_cost(thinned, *sample[0])
    assert all(dropped.macs[part] < bare.macs[part] for part in ("3d", "2d", "head"))
    bare = pass_costs(Ada3D(thinned.detector, DropRates(), thinned.places), [sample], "macs")
    solution = solve_rates({"a": thinned}, [sample], loss, dense_cost=bare, fraction=0.9, levels=(1.0, 0.8, 0.5))
    assert solution.cost <= 0.9 * bare
    assert set(solution.options) == {("3d", 1), ("3d", 2), ("2d", 0), ("2d", 2)}
    whole = solve_rates({"a": thinned}, [sample], loss, dense_cost=bare, fraction=1.0, levels=(1.0, 0.5))
    assert whole.predicted_loss <= solution.predicted_loss
    with pytest.raises(WithinError, match=r"No drop rates keep macs to 1\.0%"):
        solve_rates({"a": thinned}, [sample], loss, dense_cost=bare, fraction=0.01, levels=(1.0, 0.5))


def test_narrower_and_shallower_networks_still_run(inputs):
    thinned = network(reach="stay", execution="sparse", drop_rates=RATES, blocks=[[3, 16, 1, 2, 16]])
    found = prune_widths(thinned, widths=0.5)
    assert found.blocks[0].widths == (8, 8, 8, 8)
    rebuilt = network(
        reach="stay", execution="sparse", drop_rates=RATES, blocks=[[3, [8] * 4, 1, 2, found.blocks[0].upsample_width]]
    )
    rebuilt.load_state_dict(found.network.state_dict())
    with torch.no_grad():
        assert largest_difference(found.network.eval()(*inputs), rebuilt.eval()(*inputs)) == 0
    shallow = remove_convolutions(thinned, [1]).network
    assert list(shallow.predictor.map_embeddings) == ["0", "1"]
    assert shallow.rates.pixels == {0: 0.8, 1: 0.5}
    assert len(shallow.detector.bev.blocks[0]) == 3
    with torch.no_grad():
        shallow(*inputs)
    for numbers in ([0], [2]):
        with pytest.raises(WithinError):
            remove_convolutions(thinned, numbers)
    assert isinstance(DensePart(thinned), torch.nn.Module)


def test_the_target_may_fill_boxes():
    """A pixel counts where its centre lies in an object's box; the Gaussians are as without."""
    grid = MapGrid((0, -10), (0.5, 0.5), (40, 40))
    boxes = torch.tensor([[[8.0, 0, 0, 6, 2, 1, 0.7], [15, 5, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0]]])
    labels = torch.tensor([[0, 1, -1]])
    plain = importance_target(boxes, labels, 2, grid)
    filled = importance_target(boxes, labels, 2, grid, ImportanceTarget(boxes=True))
    inside = torch.from_numpy(pixels_in_boxes(boxes[0, :2].numpy(), grid))
    assert filled[0, 0][inside].min() == 1
    assert torch.equal(filled[0, 0][~inside], plain[0, 0][~inside])
    assert plain[0, 0][inside].min() < 0.2
    wide = importance_target(boxes, labels, 2, grid, ImportanceTarget(least_radius=9))
    assert (wide >= plain).all()
    assert (wide > plain).any()


def test_boxes_and_pixels():
    grid = MapGrid((0, -2), (0.5, 0.5), (8, 8))
    boxes = torch.tensor([[1.0, 0.0, 0, 1.0, 2.0, 1, 0.0]]).numpy()
    inside = pixels_in_boxes(boxes, grid)
    assert inside.sum() == 2 * 4
    assert inside[2:6, 1:3].all()


def test_drop_counts_add_up(inputs):
    thinned = network(reach="stay", execution="sparse", drop_rates=RATES)
    frame = synthetic_frame(3, 2)
    one = network_inputs([frame.points], thinned.detector.grid)
    boxes = frame.calibration.lidar_boxes(frame.objects.locations, frame.objects.sizes, frame.objects.rotations)
    with torch.no_grad():
        _, choices = thinned.run(*one)
    for count, choice in zip(drop_counts(choices, boxes, map_grid(thinned, 4)), choices, strict=True):
        assert count.occupied == int(choice.before.sum())
        assert count.dropped == int((choice.before & ~choice.after).sum())
        assert 0 < count.in_boxes < count.occupied
        assert 0 <= count.dropped_in_boxes <= count.in_boxes


def test_what_cannot_be():
    with pytest.raises(WithinError, match="no stage 7"):
        network(drop_rates={"voxels": {7: 0.5}})
    with pytest.raises(WithinError, match="cannot stay"):
        drop_rates({"pixels": {"1": 0}})
    with pytest.raises(WithinError, match="did you mean 'voxels'"):
        drop_rates({"voxel": {}})
    with pytest.raises(WithinError, match="Nothing predicts importance"):
        Ada3D(network(), DropRates({1: 0.5}), ((2,), ()))
    with pytest.raises(WithinError, match="widths for 3 convolutions"):
        network(blocks=[[2, [8, 8], 1, 2, 8]])
    assert occupied(torch.zeros(1, 2, 3, 3)).sum() == 0
