"""Calibrators give the range they promise, however the values come, and refuse what has no range."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.ao.quantization import MovingAverageMinMaxObserver

from within.core.errors import WithinError
from within.core.quantize.calibrators import CALIBRATORS, Histogram, calibrator
from within.core.quantize.calibrators.entropy import divergences
from within.core.quantize.calibrators.histogram import MOST_BINS

NAMES = sorted(CALIBRATORS)


def normal(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


@pytest.mark.filterwarnings("ignore:All calibration values")
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30), st.integers(1, 30))
def test_maximum_does_not_depend_on_the_batches(values, split):
    """Would catch a maximum that forgets earlier tensors, or that ignores negative values."""
    tensor = torch.tensor(values)
    found = calibrator("max")
    for part in tensor.split(split):
        found.observe(part)
    assert float(found.amax()) == float(tensor.abs().max())
    assert [float(bound) for bound in found.range()] == [float(tensor.min()), float(tensor.max())]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 700))
def test_histogram_does_not_depend_on_the_batches_once_its_range_is_set(seed, split):
    """Would catch counts lost or moved when tensors are added."""
    values = normal(2000, seed).abs()
    values[0] = 5.0  # the first tensor sets the range
    whole, parts = Histogram(64), Histogram(64)
    whole.add(values)
    for part in values.split(split):
        parts.add(part)
    assert torch.equal(whole.counts, parts.counts)
    assert torch.equal(whole.edges, parts.edges)
    assert int(whole.counts.sum()) == values.numel()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(2**-10, 1e5, width=32), min_size=1, max_size=12), st.integers(2, 100))
def test_growing_histogram_loses_nothing(scales, bins):
    """Would catch values beyond the last edge when the range grows, also past the largest number of bins."""
    histogram = Histogram(bins)
    largest = 0.0
    for seed, scale in enumerate(scales):
        values = normal(100, seed).abs() * scale
        largest = max(largest, float(values.max()))
        histogram.add(values)
    assert int(histogram.counts.sum()) == 100 * len(scales)
    assert histogram.edges.numel() == histogram.counts.numel() + 1
    assert float(histogram.edges[-1]) >= largest * (1 - 1e-6)
    assert histogram.counts.numel() <= MOST_BINS + 1
    assert torch.all(histogram.edges.diff() > 0)


def test_zeros_before_the_first_value_are_counted():
    """Would catch a first tensor of zeros, from which no bin width follows."""
    histogram = Histogram(16)
    histogram.add(torch.zeros(10))
    histogram.add(torch.tensor([0.0, 1.0]))
    assert histogram.counts.tolist() == [11] + [0] * 14 + [1]


@pytest.mark.parametrize("percentile", [50.0, 90.0, 99.0, 99.9, 99.99, 100.0])
def test_percentile_is_that_of_the_values(percentile):
    """Would catch a percentile of the wrong tail, or more than a bin away from the sorted values."""
    values = normal(200_000)
    found = calibrator("percentile", percentile=percentile, bins=4096)
    for part in values.split(50_000):
        found.observe(part)
    width = float(found.histograms[0].edges[1])
    exact = np.percentile(values.abs().numpy(), percentile, method="inverted_cdf")
    assert abs(float(found.amax()) - exact) <= 1.01 * width


@pytest.mark.parametrize(("bits", "unsigned"), [(8, False), (4, False), (3, False), (4, True)])
def test_mse_is_the_least_of_all_candidates(bits, unsigned):
    """Would catch a grid of the wrong number of levels: every bin centre is tried, with rounding itself."""
    found = calibrator("mse", bits=bits, unsigned=unsigned, bins=512, start_bin=20)
    found.observe(normal(20_000) ** 3)
    histogram = found.histograms[0]
    centres = ((histogram.edges[1:] + histogram.edges[:-1]) / 2).double()
    largest = 2 ** (bits - 1 + unsigned) - 1
    errors = []
    for amax in centres[20:]:
        rounded = (centres * largest / amax).round().clamp(-largest, largest) * amax / largest
        errors.append(float(((rounded - centres) ** 2 * histogram.counts).sum()))
    assert float(found.amax()) == pytest.approx(float(centres[20 + int(np.argmin(errors))]), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([4, 8, 16, 32]), st.floats(0, 0.9))
def test_divergences_are_those_of_the_definition(seed, levels, empty):
    """Would catch a prefix sum off by one, a tail that is lost, and empty bins that take part."""
    random = np.random.default_rng(seed)
    counts = np.where(random.random(60) < empty, 0, random.integers(1, 100, 60)).astype(float)
    counts[[0, 3]] = 7
    ranges = np.arange(10, 61, 3)
    for i, found in zip(ranges, divergences(counts, ranges, levels)):
        P = counts[:i].copy()
        P[-1] += counts[i:].sum()
        level = np.arange(i) * levels // i
        used = counts[:i] > 0
        Q = np.zeros(i)
        for k in range(levels):
            members = used & (level == k)
            Q[members] = counts[:i][members].mean() if members.any() else 0.0
        P, Q = P / P.sum(), Q / Q.sum()
        inside = P > 0
        expected = np.inf if np.any(Q[inside] == 0) else float((P[inside] * np.log(P[inside] / Q[inside])).sum())
        assert found == pytest.approx(expected, abs=1e-10)


def test_entropy_clips_outliers():
    """Would catch entropy calibration that keeps the maximum whatever the tail."""
    values = torch.cat([normal(100_000), torch.tensor([60.0])])
    found = calibrator("entropy")
    found.observe(values)
    assert 2 < float(found.amax()) < 20


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_moving_average_equals_the_observer_of_torch(momentum):
    """Would catch weights of old and new swapped, or a first tensor that is averaged with zero."""
    ours, theirs = calibrator("moving_average", momentum=momentum), MovingAverageMinMaxObserver(1 - momentum)
    for seed in range(5):
        values = normal(50, seed) * (1 + seed)
        ours.observe(values)
        theirs(values)
    for found, expected in zip(ours.range(), (theirs.min_val, theirs.max_val)):
        assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_channels_are_calibrated_one_by_one(name):
    """Would catch one channel's values in another's range."""
    tensors = [
        normal(4 * 600, seed).reshape(2, 4, 300) * torch.tensor([1.0, 10.0, 0.1, 3.0])[:, None] for seed in (0, 1)
    ]
    together = calibrator(name, axis=1)
    alone = [calibrator(name) for _ in range(4)]
    for tensor in tensors:
        together.observe(tensor)
        for channel, one in enumerate(alone):
            one.observe(tensor[:, channel])
    assert together.amax().tolist() == [float(one.amax()) for one in alone]
    for found, expected in zip(together.range(), zip(*[one.range() for one in alone])):
        assert found.tolist() == [float(bound) for bound in expected]


@pytest.mark.parametrize("name", NAMES)
def test_range_of_values_without_negatives_starts_at_their_least(name):
    """Would catch half of an unsigned grid wasted on values that never occur."""
    found = calibrator(name)
    found.observe(normal(5000).relu())
    low, high = found.range()
    assert float(low) == 0
    assert float(high) == pytest.approx(float(found.amax()))


@pytest.mark.parametrize("name", NAMES)
def test_scale_equivariance(name):
    """Would catch an absolute tolerance: values twice as large have a range twice as large."""
    found = [calibrator(name), calibrator(name)]
    for seed in range(3):
        found[0].observe(normal(3000, seed))
        found[1].observe(4 * normal(3000, seed))
    assert float(found[1].amax()) == pytest.approx(4 * float(found[0].amax()), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_observed_is_an_error(name):
    """Would catch a model quantised with ranges that no data set."""
    for ask in (calibrator(name, name="conv1").amax, calibrator(name, name="conv1").range):
        with pytest.raises(WithinError, match=r"Nothing was observed.*conv1"):
            ask()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_values_that_are_not_finite_are_refused_and_not_counted(name, bad):
    """Would catch a NaN that turns every later range into NaN, and an error that does not say where."""
    found = calibrator(name, name="block.conv1")
    found.observe(normal(3000))
    before = float(found.amax())
    values = torch.ones(2, 3, dtype=torch.float64)
    values[1, 2] = bad
    with pytest.raises(WithinError, match=r"block\.conv1, tensor 1, first at index \(1, 2\)"):
        found.observe(values)
    assert float(found.amax()) == before


@pytest.mark.parametrize("name", NAMES)
def test_empty_tensors_and_changed_channels_are_refused(name):
    """Would catch the reduction of nothing, and channels of two layers taken for one."""
    with pytest.raises(WithinError, match="empty"):
        calibrator(name).observe(torch.zeros(0, 3))
    found = calibrator(name, axis=0)
    found.observe(normal(600).reshape(3, 200))
    with pytest.raises(WithinError, match="3 channels"):
        found.observe(normal(800).reshape(4, 200))
    with pytest.raises(WithinError, match="no axis"):
        calibrator(name, axis=2).observe(torch.ones(2, 2))


@pytest.mark.parametrize("name", NAMES)
def test_zeros_and_constants_warn(name):
    """Would catch a dead layer that goes unnoticed, or a range that is NaN for it."""
    found = calibrator(name)
    found.observe(torch.zeros(100))
    with pytest.warns(UserWarning, match="zero; the scale will be 1"):
        assert float(found.amax()) == 0
    found = calibrator(name)
    found.observe(torch.full((100,), 2.5))
    with pytest.warns(UserWarning, match="equal"):
        assert float(found.amax()) == pytest.approx(2.5, rel=1e-3)


@pytest.mark.parametrize("name", ["percentile", "mse", "entropy"])
def test_a_range_is_never_zero_when_a_value_is_not(name):
    """Would catch a scale of zero where all but a few values fall into the first bin."""
    found = calibrator(name)
    found.observe(torch.cat([torch.zeros(10**6), torch.ones(1)]))
    assert float(found.amax()) > 0


def test_half_precision_is_calibrated_like_single():
    """Would catch counting in a type that cannot count."""
    values = normal(5000).half()
    for name in NAMES:
        found = [calibrator(name), calibrator(name)]
        found[0].observe(values)
        found[1].observe(values.float())
        assert float(found[0].amax()) == float(found[1].amax())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("minimum", {}, "choose one of: max, moving_average"),
        ("max", {"percentile": 99.0}, "no option 'percentile'"),
        ("percentile", {"percentile": 101.0}, "101"),
        ("percentile", {"percentile": 0.0}, "above 0"),
        ("moving_average", {"momentum": 1.0}, "momentum"),
        ("mse", {"bits": 1}, "1 bits"),
        ("entropy", {"bins": 100}, "bin 128 of 100"),
        ("entropy", {"stride": 0}, "stride"),
    ],
)
def test_impossible_options_are_refused(name, options, message):
    """Would catch a misspelt option that is ignored."""
    with pytest.raises(WithinError, match=message):
        calibrator(name, **options)
