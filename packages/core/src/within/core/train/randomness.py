"""Randomness that needs no memory: every random number of a step is a function of (seed, step, rank, stream).

A generator that runs on from step to step must be stored in each checkpoint, for each rank and each worker, and still
breaks when their number changes. Reseeding each step from its coordinates gives an interrupted run the numbers of an
uninterrupted one for nothing. `numpy.random.SeedSequence` mixes the coordinates, so neighbouring steps are unrelated.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch

DATA, MODEL, ORDER = 0, 1, 2  # streams: what a batch draws, what the network draws (dropout), the order of the items

Made = TypeVar("Made")


def step_seed(seed: int, step: int, rank: int, stream: int) -> int:
    """Returns the seed, in [0, 2^63), of one stream of one step on one rank."""
    state = np.random.SeedSequence((seed, step, rank, stream)).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # torch.manual_seed formats a stack trace for each device type that is not initialised: 0.6 ms, every step.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


@contextmanager
def preserved_randomness() -> Iterator[None]:
    """Gives Python, NumPy and torch back the states they had before the block."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if devices:
            torch.cuda.set_rng_state_all(devices)


def seeded(seed: int, make: Callable[[], Made]) -> Made:
    """Returns what a function makes with the random numbers of a seed; those of the caller go on undisturbed."""
    with preserved_randomness():
        seed_everything(seed)
        return make()
