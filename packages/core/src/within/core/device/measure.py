"""Time models against each other on a machine that others use too.

Candidates are loaded once and warmed up; then each round runs all of them once, in a new random order, so that a change
of clock rate or load falls on all alike. CPU time of the computing thread is what counts: a process that waits for its
turn does not pay for it. The result is a median with its spread, and the ratio to the first candidate is the median of
the ratios within rounds, with a bootstrap interval over rounds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from within.core.device.runtimes import Runtime, Session
from within.core.device.runtimes import runtime as runtime_named
from within.core.errors import WithinError

Candidate = nn.Module | str | Path | Session | Callable[[], object]

_BOOTSTRAP_SAMPLES = 2000


@dataclass(frozen=True)
class Timing:
    """Time of one candidate, in seconds of CPU unless the name says wall.

    Attributes:
        name, runtime: which candidate ran, and on what.
        median: median over the rounds.
        mad: median absolute deviation from it.
        lower_quartile, upper_quartile: 25th and 75th percentile.
        wall_median: median of the elapsed time.
        ratio: median over rounds of this candidate's time over the first candidate's (1 for the first).
        ratio_interval: 95 % bootstrap interval of `ratio`.
        samples: CPU seconds of each round.
    """

    name: str
    runtime: str
    median: float
    mad: float
    lower_quartile: float
    upper_quartile: float
    wall_median: float
    ratio: float
    ratio_interval: tuple[float, float]
    samples: tuple[float, ...]


def measure(
    candidates: Mapping[str, Candidate] | Candidate,
    inputs: Sequence[Tensor] | Mapping[str, Sequence[Tensor]],
    *,
    runtime: str | Runtime | Mapping[str, str | Runtime] = "onnxruntime",
    threads: int = 1,
    warmup: int = 3,
    repeats: int = 30,
    seed: int = 0,
) -> dict[str, Timing]:
    """Times each candidate `repeats` times, interleaved.

    Arguments:
        candidates: what to time by name, or a single one, which is then named `model`: an `nn.Module`, a path of an
            ONNX file, a loaded `Session`, or a function without arguments that does the whole run itself.
        inputs: the input of every candidate, or one input for each name.
        runtime: name of a runtime, a runtime, or one for each name; not used for sessions and functions.
        threads: for runtimes that are given by name.
        warmup: rounds that do not count.
        repeats: rounds that count.
        seed: of the order within rounds and of the bootstrap.

    Returns:
        the timings, in the order of the candidates.

    Raises:
        WithinError: when there is nothing to time, or a runtime cannot load a candidate.
    """
    if not isinstance(candidates, Mapping):
        candidates = {"model": candidates}
    if not candidates or repeats < 1:
        raise WithinError("There is nothing to measure", todo="pass at least one candidate and one repeat")
    runs: dict[str, tuple[Callable[[], object], Callable[[], float], str]] = {}
    for name, candidate in candidates.items():
        own_inputs = inputs[name] if isinstance(inputs, Mapping) else inputs
        chosen = runtime[name] if isinstance(runtime, Mapping) else runtime
        if isinstance(candidate, Session):
            runs[name] = (_bind(candidate, own_inputs), candidate.cpu_clock, "session")
            continue
        if not isinstance(candidate, (nn.Module, str, Path)):
            runs[name] = (candidate, time.thread_time if threads == 1 else time.process_time, "function")
            continue
        engine = runtime_named(chosen, threads=threads) if isinstance(chosen, str) else chosen
        session = engine.load(candidate, own_inputs)
        runs[name] = (_bind(session, own_inputs), session.cpu_clock, engine.name)

    order, generator = list(runs), random.Random(seed)
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    wall: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(warmup + repeats):
        generator.shuffle(order)
        for name in order:
            function, clock, _ = runs[name]
            wall_start, cpu_start = time.perf_counter(), clock()
            function()
            cpu_time, wall_time = clock() - cpu_start, time.perf_counter() - wall_start
            if turn >= warmup:
                cpu[name].append(cpu_time)
                wall[name].append(wall_time)
    first = np.asarray(cpu[next(iter(runs))])
    return {
        name: _timing(name, runs[name][2], np.asarray(cpu[name]), np.asarray(wall[name]), first, seed) for name in runs
    }


def _bind(session: Session, inputs: Sequence[Tensor]) -> Callable[[], object]:
    return lambda: session.run(inputs)


def ratio_of(times: np.ndarray, reference: np.ndarray, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """Returns the median of the ratios within rounds, and its 95 % bootstrap interval over rounds.

    Arguments:
        times, reference: (rounds,), seconds of two candidates that took turns.
        seed: of the bootstrap.
    """
    ratios = times / np.maximum(reference, 1e-9)  # the clock's resolution
    picks = np.random.default_rng(seed).integers(0, len(ratios), (_BOOTSTRAP_SAMPLES, len(ratios)))
    low, high = (float(value) for value in np.quantile(np.median(ratios[picks], axis=1), [0.025, 0.975]))
    return float(np.median(ratios)), (low, high)


def _timing(name: str, engine: str, cpu: np.ndarray, wall: np.ndarray, first: np.ndarray, seed: int) -> Timing:
    median = float(np.median(cpu))
    lower, upper = (float(value) for value in np.quantile(cpu, [0.25, 0.75]))
    ratio, interval = ratio_of(cpu, first, seed)
    return Timing(
        name=name,
        runtime=engine,
        median=median,
        mad=float(np.median(np.abs(cpu - median))),
        lower_quartile=lower,
        upper_quartile=upper,
        wall_median=float(np.median(wall)),
        ratio=ratio,
        ratio_interval=interval,
        samples=tuple(float(value) for value in cpu),
    )
