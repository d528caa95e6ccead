"""The optimal scale is the global optimum: against every assignment there is, closed forms and published tables."""

from __future__ import annotations

import importlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from within.core.errors import WithinError
from within.core.quantize import narrowing
from within.core.quantize.alternating_scale import alternating_scale
from within.core.quantize.assignment import Best, evaluate, sides
from within.core.quantize.codebook import (
    Codebook,
    arbitrary,
    binary,
    integer,
    logarithmic,
    powers_of_two,
    quantize_to_codebook,
    ternary,
)
from within.core.quantize.optimal_scale import optimal_scale

MODULE = importlib.import_module("within.core.quantize.optimal_scale")  # the package may hold the function of that name
BOOKS = (
    integer(8),
    integer(3),
    integer(2, narrow=False),
    ternary(),
    binary(),
    powers_of_two(6),
    logarithmic(8),
    arbitrary([0, 1, 2, 3]),
    arbitrary([-3, -1]),
    arbitrary([-2, 0.5, 3]),
    arbitrary([1.5]),
)
WEIGHTS = st.lists(st.floats(-8, 8, width=16), min_size=1, max_size=12)
CODEBOOKS = st.one_of(
    st.sampled_from(BOOKS[1:]),
    st.lists(st.integers(-6, 6).filter(bool), min_size=1, max_size=6).map(arbitrary),
    st.lists(st.integers(0, 9), min_size=2, max_size=5).filter(any).map(arbitrary),
)

# scale and squared error on real weights (printed digits), and the squared error of the absolute maximum for integers
GOLDENS = {
    "layer1.0.conv1.weight": {
        "int8": (0.00754690923, 0.0100507631, 0.0103872),
        "int4": (0.0797637948, 1.44209979, 2.75561),
        "ternary": (0.225329711, 12.2405282, None),
        "powers of two to 64": (0.0148204353, 1.46471436, None),
        "logarithms to log 8": (0.196836256, 3.53496559, None),
        "int3": (None, 4.03109531, None),
        "binary": (None, 27.4122753, None),
    },
    "layer3.2.conv2.weight": {
        "int8": (0.00191459179, 0.0121029765, 0.0138569),
        "int4": (0.0200598573, 1.61920416, 4.39334),
        "ternary": (0.0628506616, 18.9112697, None),
        "powers of two to 64": (0.00281224485, 3.25201341, None),
        "logarithms to log 8": (0.0524195541, 4.19721723, None),
        "int3": (None, 5.30914369, None),
        "binary": (None, 37.1960113, None),  # in exact arithmetic; float32 sums give 37.1960144
    },
    "linear.weight": {
        "int8": (0.0153203883, 0.0118607703, 0.0127683),
        "int4": (0.200941177, 2.60853984, 4.09467),
        "ternary": (0.660533226, 37.1307483, None),
        "powers of two to 64": (0.0341602621, 7.10568626, None),
        "logarithms to log 8": (0.552951941, 6.95693708, None),
        "int3": (None, 9.32254502, None),
        "binary": (None, 71.0092773, None),
    },
}


def squared_error(weights: torch.Tensor, scale: float | torch.Tensor, codebook: Codebook) -> float:
    return float((weights.double() - quantize_to_codebook(weights.double(), scale, codebook)).square().sum())


def best_of_all_assignments(weights: np.ndarray, codebook: Codebook) -> float:
    """The least squared error over the assignments of every interval between breakpoints, for scales of both signs."""
    levels, middles = np.array(codebook.levels), np.array(codebook.middles)
    least = float((weights**2).sum())  # scale 0
    with np.errstate(divide="ignore", invalid="ignore"):
        breakpoints = (weights[:, None] / middles).reshape(-1)
    for sign in (1, -1):
        ends = np.unique(sign * breakpoints[np.isfinite(breakpoints) & (sign * breakpoints > 0)])
        inside = (ends[1:] + ends[:-1]) / 2
        for scale in [*inside, *([ends[0] / 2, ends[-1] * 2] if ends.size else [1.0])]:
            codes = levels[np.abs(weights[:, None] - sign * scale * levels).argmin(1)]
            A, D = float(weights @ codes), float(codes @ codes)
            if D > 0:
                least = min(least, float(((weights - A / D * codes) ** 2).sum()))
    return least


@pytest.mark.parametrize("layer", GOLDENS)
def test_tables_on_real_weights(data, layer):
    """Would catch a local optimum: on int8 the alternating solution is up to 10 % above these errors."""
    weights = load_file(data("core") / "cifar10_resnet20.safetensors")[layer]
    for codebook in (integer(8), integer(4), ternary(), powers_of_two(6), logarithmic(8), integer(3), binary()):
        scale, error, maximum = GOLDENS[layer][codebook.name]
        found, found_error = optimal_scale(weights, codebook)
        assert float(found_error) == pytest.approx(error, rel=1e-8)
        if scale is not None:
            assert float(found) == pytest.approx(scale, rel=1e-8)
        if maximum is not None:
            assert float(alternating_scale(weights, codebook, steps=0)[1]) == pytest.approx(maximum, rel=1e-5)


@pytest.mark.parametrize("narrowed", [False, True])
@settings(max_examples=150, deadline=None)
@given(WEIGHTS, CODEBOOKS)
def test_no_assignment_is_better(narrowed, weights, codebook):
    """Would catch any missed interval, of either sign, in the sweep or in the intervals that are left for it."""
    values = np.array(weights, np.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "SWEPT_AT_ONCE", 0 if narrowed else 10**9)
        patch.setattr(narrowing, "SWEPT", 2)
        scale, error = optimal_scale(torch.from_numpy(values), codebook)
    expected = best_of_all_assignments(values, codebook)
    assert float(error) == pytest.approx(expected, rel=1e-9, abs=1e-12 * float((values**2).sum()) + 1e-300)
    assert squared_error(torch.from_numpy(values), scale, codebook) == pytest.approx(float(error), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("codebook", BOOKS, ids=lambda book: book.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_never_above_the_alternating_solution_or_a_grid(codebook, seed):
    """Would catch a local optimum on weights enough to be narrowed, with heavy tails and many zeros."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(3000, generator=generator) * torch.randn(3000, generator=generator)
    weights[torch.rand(3000, generator=generator) < 0.3] = 0
    _, error = optimal_scale(weights, codebook)
    grid = weights.abs().max() * torch.cat([torch.linspace(-2, 2, 201), torch.logspace(-4, 0.5, 300)]).double()
    tried = [float(alternating_scale(weights, codebook)[1])]
    tried += [squared_error(weights, float(scale), codebook) for scale in grid if scale != 0]
    assert float(error) <= min(tried) * (1 + 1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.sampled_from(BOOKS), st.floats(1e-6, 1e6), st.integers(0, 1000))
def test_scale_and_order_of_the_weights(count, codebook, factor, seed):
    """Would catch an absolute tolerance, or a result that depends on the order of the weights."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(count, generator=generator).double()
    scale, error = optimal_scale(weights, codebook)
    shuffled = weights[torch.randperm(count, generator=generator)]
    assert float(optimal_scale(shuffled, codebook)[1]) == pytest.approx(float(error), rel=1e-9, abs=1e-25)
    scaled = optimal_scale(factor * weights, codebook)
    assert float(scaled[1]) == pytest.approx(factor**2 * float(error), rel=1e-9, abs=1e-25 * factor**2)
    assert squared_error(weights, scaled[0] / factor, codebook) == pytest.approx(float(error), rel=1e-9, abs=1e-25)
    if codebook.symmetric:
        assert float(optimal_scale(-weights, codebook)[0]) == pytest.approx(float(scale), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(BOOKS[:8]), st.floats(1e-4, 1e4), st.integers(0, 1000), st.sampled_from([10, 5000]))
def test_quantised_weights_are_recovered(codebook, factor, seed, count):
    """Would catch a scale off by one step, where many breakpoints coincide."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.tensor(codebook.levels, dtype=torch.float64)
    codes = torch.cat([levels, levels[torch.randint(len(levels), (count,), generator=generator)]])
    scale, error = optimal_scale(factor * codes, codebook)
    assert float(scale) == pytest.approx(factor, rel=1e-12)
    assert float(error) <= 1e-25 * float((factor * codes).square().sum())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=60))
def test_closed_forms(weights):
    """Would catch wrong special cases: binary is mean |w|, ternary the mean of the top k of largest S_k / sqrt k."""
    values = torch.tensor(weights, dtype=torch.float64)
    magnitudes = values.abs().sort(descending=True).values
    scale, error = optimal_scale(values, binary())
    assert float(scale) == pytest.approx(float(magnitudes.mean()), rel=1e-12, abs=1e-300)
    assert float(error) == pytest.approx(float((magnitudes - magnitudes.mean()).square().sum()), rel=1e-9, abs=1e-12)
    sums = magnitudes.cumsum(0)
    gains = sums**2 / torch.arange(1, len(sums) + 1)
    _, error = optimal_scale(values, ternary())
    expected = float(values.square().sum() - gains.max())
    assert float(error) == pytest.approx(expected, rel=1e-9, abs=1e-12 * float(values.square().sum()))


def test_large_ternary_closed_form():
    """Would catch narrowing that drops the optimum where one code has hundreds of thousands of breakpoints."""
    weights = torch.randn(200_000, generator=torch.Generator().manual_seed(0)).double()
    magnitudes = weights.abs().sort(descending=True).values
    sums = magnitudes.cumsum(0)
    k = int((sums / torch.arange(1, len(sums) + 1).double().sqrt()).argmax()) + 1
    scale, _ = optimal_scale(weights, ternary())
    assert float(scale) == pytest.approx(float(sums[k - 1] / k), rel=1e-12)


@pytest.mark.parametrize("codebook", [integer(8), integer(4), arbitrary([-2, 0, 1, 5])], ids=lambda book: book.name)
@pytest.mark.parametrize(("axis", "group_size"), [(0, None), (1, None), (-1, None), (0, 32), (None, 100), (2, 7)])
def test_channels_and_groups_are_independent_problems(codebook, axis, group_size):
    """Would catch rows that run into each other where many are solved at one time."""
    weights = torch.randn(6, 5, 40, generator=torch.Generator().manual_seed(0))
    weights[2] *= 100
    weights[3] = 0
    scale, error = optimal_scale(weights, codebook, axis=axis, group_size=group_size)
    matrix = weights.reshape(1, -1) if axis is None else weights.movedim(axis, 0).reshape(weights.shape[axis], -1)
    parts = [part for row in matrix for part in (row.split(group_size) if group_size else [row])]
    assert scale.shape == error.shape
    assert scale.numel() == len(parts)
    for part, one_scale, one_error in zip(parts, scale.reshape(-1), error.reshape(-1)):
        alone_scale, alone_error = optimal_scale(part, codebook)
        assert float(one_error) == pytest.approx(float(alone_error), rel=1e-9, abs=1e-20)
        assert squared_error(part, one_scale, codebook) == pytest.approx(float(alone_error), rel=1e-9, abs=1e-20)
        assert float(one_scale) == pytest.approx(float(alone_scale), rel=1e-9)
    whole = quantize_to_codebook(weights.double(), scale, codebook, axis=axis, group_size=group_size)
    assert float((whole - weights).square().sum()) == pytest.approx(float(error.sum()), rel=1e-9)


@pytest.mark.parametrize("bins", [100, 4096])
@pytest.mark.parametrize("codebook", [integer(4), ternary(), arbitrary([0, 1, 2])], ids=lambda book: book.name)
def test_histogram_is_within_its_bound(bins, codebook):
    """Would catch counts or means of the wrong bins."""
    weights = torch.randn(20_000, generator=torch.Generator().manual_seed(0)).double()
    _, least = optimal_scale(weights, codebook)
    _, error = optimal_scale(weights, codebook, histogram_bins=bins)
    width = float(weights.max() - weights.min()) / bins
    assert float(least) <= float(error) * (1 + 1e-12)
    assert float(error) ** 0.5 <= float(least) ** 0.5 + 2 * width * weights.numel() ** 0.5


def test_many_weights_are_counted(monkeypatch):
    """Would catch a search over more weights than fit into memory."""
    weights = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    exact = optimal_scale(weights, integer(8))
    monkeypatch.setattr(MODULE, "HISTOGRAM_FROM", 100)
    counted = optimal_scale(weights, integer(8))
    assert float(counted[1]) == pytest.approx(float(exact[1]), rel=1e-3)


def test_scale_may_be_negative():
    """Would catch a codebook without negative levels taken to fit only positive weights."""
    scale, error = optimal_scale(torch.tensor([-1.0, -2.0, -4.0]), arbitrary([0, 1, 2, 4]))
    assert float(scale) == pytest.approx(-1)
    assert float(error) == pytest.approx(0, abs=1e-25)


def test_zeros():
    """Would catch a division by zero: a tensor of zeros is represented exactly, whatever the levels."""
    scale, error = optimal_scale(torch.zeros(7), integer(8))
    assert (float(scale), float(error)) == (1.0, 0.0)
    scale, error = optimal_scale(torch.zeros(7), binary())
    assert (float(scale), float(error)) == (0.0, 0.0)
    assert float(alternating_scale(torch.zeros(7), integer(8))[1]) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.sampled_from(BOOKS), st.floats(0.001, 2), st.floats(1.0001, 3), st.integers(0, 1000))
def test_the_bound_holds(count, codebook, low, ratio, seed):
    """Would catch a bound that some scale in the interval exceeds, with which intervals of the optimum are dropped."""
    values = np.random.default_rng(seed).standard_normal(count)
    parts = sides(values, None, np.array([0, count]), codebook)
    scales = np.linspace(low, low * ratio, 200)
    found = evaluate(parts, np.zeros(200, np.int64), scales, Best(1))
    bound = narrowing._bound(found[:1], found[-1:])
    assert found[:, 1].max() <= bound[0] + 1e-9 * (1 + abs(bound[0]))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.sampled_from([book for book in BOOKS if book.levels[-1] > 0]), st.integers(0, 1000))
def test_alternation_never_goes_up(count, codebook, seed):
    """Would catch a scale that does not belong to the nearest levels."""
    weights = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    errors = [float(alternating_scale(weights, codebook, steps=steps)[1]) for steps in range(5)]
    assert all(after <= before for before, after in itertools.pairwise(errors))


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        (torch.zeros(0), {}, "no weights"),
        (torch.zeros(0, 3), {"axis": 0}, "no weights"),
        (torch.tensor([1.0, float("nan")]), {}, "NaN"),
        (torch.tensor([[1.0], [float("inf")]]), {}, r"\(1, 0\)"),
        (torch.ones(3), {"axis": 1}, "no axis"),
        (torch.ones(3), {"group_size": 0}, "group size"),
        (torch.ones(3), {"histogram_bins": 0}, "bins"),
    ],
)
def test_impossible_input_is_refused(weights, options, message):
    """Would catch a scale of NaN, or an index error from deep inside."""
    with pytest.raises(WithinError, match=message):
        optimal_scale(weights, integer(8), **options)
