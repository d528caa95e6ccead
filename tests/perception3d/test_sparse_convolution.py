"""Sparse convolution: golden outputs of spconv, the definition by brute force, dense convolution, and gradients."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from within.core.errors import WithinError
from within.perception3d.sparse import (
    InverseConvolution,
    SparseConvolution,
    SparseMaxPool,
    SparseTensor,
    SubmanifoldConvolution,
    cells_of,
    convolve,
    convolve_grouped,
    from_dense,
    largest_by_row,
    rulebook,
    rulebook_numba,
    rulebook_torch,
    sparse_tensor,
    sum_by_row,
)


def random_tensor(
    seed: int, shape: tuple[int, ...] = (4, 5, 6), batch: int = 2, channels: int = 3, share: float = 0.3
) -> SparseTensor:
    """Returns a sparse tensor with shuffled places, borders and whole empty maps included."""
    generator = torch.Generator().manual_seed(seed)
    occupied = torch.rand(batch, *shape, generator=generator) < share
    places = occupied.nonzero()
    places = places[torch.randperm(len(places), generator=generator)]
    return sparse_tensor(torch.randn(len(places), channels, generator=generator), places, shape, batch)


def triples(found: rulebook.Rulebook) -> set[tuple[int, int, int]]:
    return {
        (k, int(i), int(o))
        for k, (low, high) in enumerate(itertools.pairwise(found.starts))
        for i, o in zip(found.inputs[low:high], found.outputs[low:high], strict=True)
    }


GRIDS = st.sampled_from([(4, 5, 6), (1, 7, 3), (3, 1, 2), (6, 7), (1, 9)])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), GRIDS, st.sampled_from([1, 3, 5]), st.sampled_from([1, 2]), st.floats(0.05, 1.0))
def test_submanifold_pairs_are_those_of_the_definition(seed, shape, size, dilation, share):
    """Would catch neighbours across the end of a row, a layer or a batch, and unsorted places."""
    x = random_tensor(seed, shape, share=share)
    kernel, step = (size,) * len(shape), (dilation,) * len(shape)
    found = rulebook.submanifold(x.indices, shape, x.batch, kernel, step)
    places = x.indices.tolist()
    padding = tuple(size // 2 * dilation for _ in shape)
    assert triples(found) == rulebook.brute_force(places, places, kernel, (1,) * len(shape), padding, step)
    assert found.starts[-1] == len(found.inputs)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 999), GRIDS, st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 3]), st.integers(0, 1),
    st.sampled_from([1, 2]),
)  # fmt: skip
def test_strided_pairs_and_places_are_those_of_the_definition(seed, shape, size, stride, padding, dilation):
    """Would catch an output outside the grid, one that nothing reaches, and one that is left out."""
    x = random_tensor(seed, shape)
    kernel, steps, pads, gaps = ((each,) * len(shape) for each in (size, stride, padding, dilation))
    out_shape = tuple(map(rulebook.out_size, shape, kernel, steps, pads, gaps))
    if min(out_shape) < 1:
        with pytest.raises(WithinError, match="leaves nothing"):
            rulebook.strided(x.indices, shape, x.batch, kernel, steps, pads, gaps)
        return
    found = rulebook.strided(x.indices, shape, x.batch, kernel, steps, pads, gaps)
    everywhere = list(itertools.product(range(x.batch), *map(range, out_shape)))
    expected = rulebook.brute_force(x.indices.tolist(), everywhere, kernel, steps, pads, gaps)
    reached = sorted({everywhere[output] for _, _, output in expected})
    assert found.out_indices.tolist() == [list(place) for place in reached]
    rows = {place: row for row, place in enumerate(reached)}
    assert triples(found) == {(k, i, rows[everywhere[o]]) for k, i, o in expected}
    assert found.out_shape == out_shape


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.sampled_from([(4, 5, 6), (1, 7, 3)]))
def test_the_rulebooks_of_other_devices_are_the_same(seed, shape):
    """The torch version runs on GPUs; here it runs on the CPU beside the compiled one."""
    x = random_tensor(seed, shape)
    three, one, two = (3, 3, 3), (1, 1, 1), (2, 2, 2)
    pairs = []
    for module in (rulebook_numba, rulebook_torch):
        inputs, outputs, starts = module.submanifold(x.indices, shape, three, one)
        same = triples(rulebook.Rulebook(inputs, outputs, starts, x.indices, shape, len(x)))
        out = tuple(map(rulebook.out_size, shape, three, two, one, one))
        inputs, outputs, starts, places = module.strided(x.indices, x.batch, out, three, two, one, one)
        pairs.append((same, triples(rulebook.Rulebook(inputs, outputs, starts, places, out, len(x))), places.tolist()))
    assert pairs[0] == pairs[1]


def test_outputs_of_spconv(data):
    """spconv 2.3.8 on a CPU, KITTI frame 000008; its outputs come in another order."""
    golden = load_file(data("perception3d") / "golden" / "spconv238_cpu_000008.safetensors")
    shape = tuple(golden["spatial_shape_zyx"].tolist())
    x = sparse_tensor(golden["in.features"], golden["in.indices_bzyx"], shape, 1)
    first = SubmanifoldConvolution(4, 16)
    second = SparseConvolution(16, 32, stride=2, padding=1)
    third = SubmanifoldConvolution(32, 32, bias=True)
    state = {"first": "subm_4_16", "second": "conv_s2_16_32", "third": "subm_32_32"}
    for layer, name in zip((first, second, third), state.values(), strict=True):
        layer.weight.data.copy_(golden[f"{name}.weight_okkki"])
    third.bias.data.copy_(golden["subm_32_32.bias"])
    with torch.no_grad():
        one = first(x)
        two = second(one)
        three = third(two)
    torch.testing.assert_close(one.features, golden["subm_4_16.out"], rtol=1e-5, atol=1e-5)
    theirs = golden["conv_s2_16_32.out_indices"].long()
    depth, height, width = two.shape
    order = torch.argsort((theirs[:, 1] * height + theirs[:, 2]) * width + theirs[:, 3])
    assert torch.equal(two.indices.long(), theirs[order])
    torch.testing.assert_close(two.features, golden["conv_s2_16_32.out"][order], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(three.features, golden["subm_32_32.out"][order], rtol=1e-5, atol=1e-5)
    assert depth == 21


@pytest.mark.parametrize("shape", [(5, 6, 7), (8, 9)])
def test_equal_to_dense_convolution(shape):
    """Where every place counts, sparse is dense; submanifold is dense where the inputs are."""
    x = random_tensor(0, shape)
    axes = len(shape)
    convolution = F.conv3d if axes == 3 else F.conv2d
    layer = SparseConvolution(3, 4, 3, stride=2, padding=1, axes=axes, bias=True)
    weight = layer.weight.movedim(-1, 1)
    expected = convolution(x.dense(), weight, stride=2, padding=1)
    found = layer(x)
    bias = layer.bias.view(-1, *[1] * axes)
    mask = SparseTensor(torch.ones(len(found), 1), found.indices, found.shape, found.batch).dense()
    torch.testing.assert_close(found.dense(), (expected + bias) * mask)
    same = SubmanifoldConvolution(3, 4, 3, axes=axes)
    expected = convolution(x.dense(), same.weight.movedim(-1, 1), padding=1)
    mask = x.with_features(torch.ones(len(x), 1)).dense()
    torch.testing.assert_close(same(x).dense(), expected * mask)


@pytest.mark.parametrize("kind", ["submanifold", "strided", "inverse"])
def test_gradients_in_double_precision(kind):
    """Would catch gradients that are added to the wrong rows, and a transposed matrix."""
    x = random_tensor(3, (3, 4, 4), share=0.4)
    three, one = (3, 3, 3), (1, 1, 1)
    if kind == "submanifold":
        found = rulebook.submanifold(x.indices, x.shape, x.batch, three, one)
    else:
        found = rulebook.strided(x.indices, x.shape, x.batch, three, (2, 2, 2), one, one)
        found = found.inverse(x.indices, x.shape) if kind == "inverse" else found
    features = torch.randn(found.in_rows, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(27, 3, 2, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b, c: convolve(a, b, found, c), (features, weight, bias))


def test_in_half_precision_and_without_pairs():
    """The path of other devices and types; and a tensor without any place."""
    x = random_tensor(1)
    layer = SubmanifoldConvolution(3, 4)
    expected = layer(x).features
    half = layer.to(torch.bfloat16)(x.with_features(x.features.to(torch.bfloat16)))
    torch.testing.assert_close(half.features.float(), expected, rtol=0.1, atol=0.1)
    empty = sparse_tensor(torch.zeros(0, 3), torch.zeros(0, 4, dtype=torch.int32), (4, 5, 6), 1)
    assert len(SubmanifoldConvolution(3, 4)(empty)) == 0
    assert len(SparseConvolution(3, 4, stride=2)(empty)) == 0


def test_the_way_back_has_the_earlier_places():
    x = random_tensor(2)
    down = SparseConvolution(3, 5, 3, stride=2, padding=1, key="down")
    up = InverseConvolution(5, 3, 3, key="down")
    found = up(SubmanifoldConvolution(5, 5)(down(x)))
    assert torch.equal(found.indices, x.indices)
    assert found.shape == x.shape
    with pytest.raises(WithinError, match="same key and kernel"):
        InverseConvolution(5, 3, 3, key="other")(down(x))


def test_layers_of_a_stage_share_a_rulebook():
    x = random_tensor(2)
    first, second = SubmanifoldConvolution(3, 4), SubmanifoldConvolution(4, 4)
    second(first(x))
    assert len(x.rulebooks) == 1
    assert second.rulebook(first(x)) is first.rulebook(x)
    assert not x.keep(torch.arange(3)).rulebooks


def test_max_pooling_is_that_of_the_occupied_places():
    x = random_tensor(4, (4, 6, 6), channels=2)
    lowest = torch.where(x.with_features(torch.ones(len(x), 1)).dense() > 0, x.dense(), -torch.inf)
    found = SparseMaxPool(2)(x)
    expected = F.max_pool3d(lowest, 2)
    torch.testing.assert_close(found.dense(), torch.where(expected.isinf(), 0, expected))


def test_indices_that_are_not_contiguous_are_not_read_wrongly():
    """spconv corrupts its output without a word; here they are laid out anew."""
    x = random_tensor(5)
    scattered = torch.stack([x.indices, x.indices], dim=2)[:, :, 0]
    assert not scattered.is_contiguous()
    layer = SubmanifoldConvolution(3, 4)
    again = sparse_tensor(x.features, scattered, x.shape, x.batch)
    assert again.indices.is_contiguous()
    torch.testing.assert_close(layer(again).features, layer(x).features, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("features", "indices", "words"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 4), "do not belong together"),
        (torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.int32), "batch, z, y, x"),
        (torch.zeros(1, 3), torch.tensor([[0, 0, 5, 0]]), "outside the grid.*row 0"),
        (torch.zeros(1, 3), torch.tensor([[1, 0, 0, 0]]), "outside the grid"),
        (torch.zeros(2, 3), torch.zeros(2, 4, dtype=torch.int64), "occurs twice"),
        (torch.full((1, 3), torch.nan), torch.zeros(1, 4, dtype=torch.int32), "NaN"),
        (torch.zeros(1, 3), torch.zeros(1, 4), "whole numbers"),
    ],
)
def test_bad_tensors_are_refused(features, indices, words):
    with pytest.raises(WithinError, match=words):
        sparse_tensor(features, indices, (4, 5, 6), 1)


def test_a_dense_map_and_back():
    x = random_tensor(6)
    again = from_dense(x.dense())
    torch.testing.assert_close(again.dense(), x.dense())
    with pytest.raises(WithinError, match="no centre"):
        SubmanifoldConvolution(3, 4, 2)(x)
    with pytest.raises(WithinError, match="takes 5 channels"):
        SubmanifoldConvolution(5, 4)(x)


@pytest.mark.parametrize("outputs", [2, 12])
@pytest.mark.parametrize("share", [0.1, 1.0])
def test_every_way_of_multiplying_is_the_dense_convolution(share: float, outputs: int) -> None:
    """Few neighbours, nearly all of them, and few outputs are handled apart."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(2, 9, 11, generator=generator) < share
    dense = torch.randn(2, 10, 9, 11, generator=generator, dtype=torch.float64) * mask[:, None]
    x = from_dense(dense, mask)
    layer = SubmanifoldConvolution(10, outputs, axes=2).double()
    features = x.features.clone().requires_grad_()
    found = layer(x.with_features(features))
    weight = layer.weight.detach().permute(0, 3, 1, 2).requires_grad_()
    image = dense.clone().requires_grad_()
    expected = torch.nn.functional.conv2d(image, weight, padding=1)
    batch, row, column = x.indices.long().unbind(1)
    torch.testing.assert_close(found.features, expected[batch, :, row, column])
    factors = torch.randn(found.features.shape, generator=generator, dtype=torch.float64)
    (found.features * factors).sum().backward()
    (expected[batch, :, row, column] * factors).sum().backward()
    torch.testing.assert_close(features.grad, image.grad[batch, :, row, column])
    torch.testing.assert_close(layer.weight.grad.permute(0, 3, 1, 2), weight.grad)


@pytest.mark.parametrize("gradient", [False, True])
def test_rows_of_one_cell(gradient):
    """Cells in the order of the grid, the largest and the sum of theirs: against a dictionary."""
    x = random_tensor(2)
    coarse = x.indices.clone()
    coarse[:, 1:] //= 2
    shape = tuple(-(-size // 2) for size in x.shape)
    rows, cells = cells_of(coarse, x.batch, shape)
    assert torch.equal(cells[rows], coarse)
    assert [tuple(each) for each in cells.tolist()] == sorted(set(map(tuple, coarse.tolist())))
    features = x.features.detach().clone().requires_grad_(gradient)
    highest, total = largest_by_row(features, rows, len(cells)), sum_by_row(features, rows, len(cells))
    for number in range(len(cells)):
        own = features[rows == number]
        assert torch.equal(highest[number], own.amax(0))
        torch.testing.assert_close(total[number], own.sum(0))
    if gradient:
        (highest.sum() + total.sum()).backward()
        assert int((features.grad == 2).sum()) == highest.numel()


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (1, 2), (2, 1), (2, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_grouped_equals_dense(inputs, outputs, bias):
    """With and without gradients, which go different ways."""
    x = random_tensor(3, (9, 8), channels=4 * inputs, share=0.6)
    layer = torch.nn.Conv2d(4 * inputs, 4 * outputs, 3, padding=1, groups=4, bias=bias)
    found = rulebook.submanifold(x.indices, x.shape, x.batch, (3, 3), (1, 1))
    expected = layer(x.dense()).movedim(1, -1)[x.indices.long().unbind(1)]
    for gradient in (True, False):
        with torch.set_grad_enabled(gradient):
            features = convolve_grouped(x.features, layer.weight.flatten(2), 4, found, layer.bias)
        torch.testing.assert_close(features, expected)


def test_pairs_towards_some_outputs():
    """Equal to those rows of the whole result; the order is that asked for."""
    x = random_tensor(5, (9, 8), channels=6, share=0.5)
    book = rulebook.strided(x.indices, x.shape, x.batch, (3, 3), (1, 1), (1, 1), (1, 1))
    weight = torch.randn(9, 6, 16, generator=torch.Generator().manual_seed(0))
    rows = torch.randperm(book.out_rows, generator=torch.Generator().manual_seed(1))[: book.out_rows // 3]
    part = book.towards(rows)
    assert torch.equal(part.out_indices, book.out_indices[rows])
    torch.testing.assert_close(convolve(x.features, weight, part), convolve(x.features, weight, book)[rows])
    assert book.towards(rows[:0]).pairs == 0
    assert len(convolve(x.features, weight, book.towards(rows[:0]))) == 0
