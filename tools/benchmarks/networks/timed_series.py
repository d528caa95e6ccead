"""Loaded models timed in turns, in several series that lie apart from each other in time."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
from torch import Tensor

from within.core.device import Session, measure
from within.core.progress import track

K = TypeVar("K", bound=Hashable)


def timed_series(sessions: Mapping[K, Session], image: Tensor, *, series: int, rounds: int) -> dict[K, np.ndarray]:
    """Returns CPU seconds, (series x rounds,), of each model on the image."""
    keys = {str(number): key for number, key in enumerate(sessions)}
    samples: dict[K, list[np.ndarray]] = {key: [] for key in sessions}
    for number in track(range(series), "Timing"):
        loaded = {name: sessions[key] for name, key in keys.items()}
        timings = measure(loaded, (image,), repeats=rounds, seed=number)
        for name, key in keys.items():
            samples[key].append(np.array(timings[name].samples))
    return {key: np.concatenate(parts) for key, parts in samples.items()}
