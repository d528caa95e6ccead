"""`measure`: interleaving, statistics and clocks. No test depends on how fast anything is."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from within.core.device import export_onnx, measure
from within.core.device.measure import _timing
from within.core.errors import WithinError


def test_every_round_runs_every_candidate_once_in_changing_order() -> None:
    """Would catch one candidate timed after the other, which a change of load would favour."""
    calls: list[str] = []
    names = ["a", "b", "c", "d"]
    timings = measure({name: (lambda name=name: calls.append(name)) for name in names}, (), warmup=2, repeats=20)
    rounds = [tuple(calls[start : start + 4]) for start in range(0, len(calls), 4)]
    assert len(rounds) == 22
    assert all(sorted(turn) == names for turn in rounds)
    assert len(set(rounds)) > 5
    assert all(len(timing.samples) == 20 for timing in timings.values())
    assert list(timings) == names


def test_the_order_depends_on_the_seed_alone() -> None:
    """Would catch an order that cannot be repeated."""

    def order(seed: int) -> list[str]:
        calls: list[str] = []
        measure({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, (), repeats=20, seed=seed)
        return calls

    assert order(1) == order(1) != order(2)


def test_statistics_of_a_timing() -> None:
    """Would catch a mean instead of a median, and a ratio of medians where rounds drift together."""
    drift = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    timing = _timing("b", "function", drift * 1.5, drift * 3, drift, 0)
    assert timing.median == statistics.median(timing.samples) == 6.0
    assert timing.mad == statistics.median([4.5, 3.0, 0.0, 6.0, 18.0])
    assert (timing.lower_quartile, timing.upper_quartile) == (3.0, 12.0)
    assert timing.wall_median == 12.0
    assert timing.ratio == 1.5
    assert timing.ratio_interval == (1.5, 1.5)


def test_one_outlier_does_not_move_the_interval() -> None:
    """Would catch a bootstrap of means."""
    first, second = np.ones(31), np.full(31, 2.0)
    second[7] = 1000.0
    low, high = _timing("b", "function", second, second, first, 0).ratio_interval
    assert (low, high) == (2.0, 2.0)


def test_modules_files_and_functions_together(tmp_path: Path) -> None:
    """Would catch candidates that are run with another's input or runtime."""
    model, inputs = nn.Conv2d(3, 4, 3).eval(), (torch.rand(1, 3, 8, 8),)
    path = export_onnx(model, inputs, tmp_path / "model.onnx").path
    timings = measure(
        {"file": path, "module": model, "function": lambda: None},
        {"file": inputs, "module": (torch.rand(2, 3, 9, 9),), "function": ()},
        runtime={"file": "onnxruntime", "module": "torch", "function": "torch"},
        repeats=3,
        warmup=1,
    )
    assert [timing.runtime for timing in timings.values()] == ["onnxruntime", "torch", "function"]
    assert timings["file"].ratio == 1.0
    assert all(timing.median >= 0 and timing.wall_median > 0 for timing in timings.values())


def test_a_single_candidate_is_named_model() -> None:
    """Would catch a single module or function being iterated over."""
    timings = measure(nn.ReLU(), (torch.rand(4),), runtime="torch", repeats=2)
    assert list(timings) == ["model"]


def test_nothing_to_measure_is_an_error() -> None:
    """Would catch a median of nothing."""
    with pytest.raises(WithinError, match="nothing to measure"):
        measure({}, ())
    with pytest.raises(WithinError, match="nothing to measure"):
        measure(lambda: None, (), repeats=0)
