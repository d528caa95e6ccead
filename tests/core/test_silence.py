"""Native code cannot print on standard output while a solver runs, and can before and after."""

from __future__ import annotations

import ctypes
import os

import numpy as np
import pytest

from within.core.solve import knapsack
from within.core.solve.silence import silent_standard_output

pytestmark = pytest.mark.skipif(os.name != "posix", reason="reaches the C library by its POSIX name")


def test_only_what_native_code_prints_inside_is_lost(capfd: pytest.CaptureFixture[str]) -> None:
    library = ctypes.CDLL(None)
    library.puts(b"before")
    with silent_standard_output():
        library.puts(b"inside")
    library.puts(b"after")
    library.fflush(None)
    assert capfd.readouterr().out.split() == ["before", "after"]


def test_standard_output_comes_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), silent_standard_output():
        raise ValueError
    os.write(1, b"after")
    assert capfd.readouterr().out == "after"


def test_highs_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """With SciPy 1.17.1 HiGHS prints a line of its own on this instance although it is told to be silent."""
    random = np.random.default_rng(53)
    costs = [random.integers(1, 600, 6).astype(float) for _ in range(5)]
    values = [cost + 20 for cost in costs]
    costs = [cost + random.random(6) for cost in costs]
    knapsack(values, costs, 1000.0, method="milp")
    ctypes.CDLL(None).fflush(None)
    assert capfd.readouterr().out == ""
