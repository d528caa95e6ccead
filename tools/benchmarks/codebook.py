"""The optimal scale of a codebook: equal to the known optima, never above the usual solution, and fast.

Known optima: three layers of a CIFAR ResNet-20 with seven codebooks, nine digits each; the binary ones have a closed
form, which is computed here in rational arithmetic. On the same layers the paper's own algorithm, a sort of all
breakpoints, runs beside, to compare both result and time. All weight tensors of four real networks are solved with the
same codebooks, per tensor and per channel, and compared with the alternating solution and with the absolute maximum.
Timed: a million weights, int8, in thread CPU time, for six distributions.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import torch
from safetensors.torch import load_file
from tools.benchmarks.networks.real import core_data

from within.core.bench import BenchResult
from within.core.progress import track
from within.core.quantize.alternating_scale import alternating_scale
from within.core.quantize.codebook import Codebook, binary, integer, logarithmic, powers_of_two, ternary
from within.core.quantize.optimal_scale import optimal_scale

DIGITS = 1e-8
SECONDS = 2.0
WEIGHTS = 1_000_000
ROUNDING = 1e-12
SWEEP_ROUNDING = 1e-9  # the sweep subtracts sums that are up to 1e5 times the error
NETWORKS = ("cifar10_resnet20", "cifar10_resnet32", "cifar10_resnet56", "lenet300_classic_mnist")
BOOKS = (integer(8), integer(4), integer(3), ternary(), binary(), powers_of_two(6), logarithmic(8))

# scale and squared error; None: not known, or (binary) a closed form
OPTIMA: dict[str, dict[str, tuple[float | None, float | None]]] = {
    "layer1.0.conv1.weight": {
        "int8": (0.00754690923, 0.0100507631),
        "int4": (0.0797637948, 1.44209979),
        "int3": (None, 4.03109531),
        "ternary": (0.225329711, 12.2405282),
        "powers of two to 64": (0.0148204353, 1.46471436),
        "logarithms to log 8": (0.196836256, 3.53496559),
        "binary": (None, None),
    },
    "layer3.2.conv2.weight": {
        "int8": (0.00191459179, 0.0121029765),
        "int4": (0.0200598573, 1.61920416),
        "int3": (None, 5.30914369),
        "ternary": (0.0628506616, 18.9112697),
        "powers of two to 64": (0.00281224485, 3.25201341),
        "logarithms to log 8": (0.0524195541, 4.19721723),
        "binary": (None, None),
    },
    "linear.weight": {
        "int8": (0.0153203883, 0.0118607703),
        "int4": (0.200941177, 2.60853984),
        "int3": (None, 9.32254502),
        "ternary": (0.660533226, 37.1307483),
        "powers of two to 64": (0.0341602621, 7.10568626),
        "logarithms to log 8": (0.552951941, 6.95693708),
        "binary": (None, None),
    },
}


def run(full: bool = False) -> BenchResult:
    """Runs the bench; `full` repeats the timing nine times instead of three."""
    rows, farthest, from_sweep = _optima()
    above, gains = _against_alternation()
    seconds = _speed(repeats=9 if full else 3)
    slowest = max(max(times) for times in seconds.values())
    rows += [
        (f"{WEIGHTS:,} {name}", "int8", "", "", "", statistics.median(times), "") for name, times in seconds.items()
    ]
    figures = {
        "optima": len(rows) - len(seconds),
        "farthest_from_known": farthest,
        "farthest_from_full_sweep": from_sweep,
        "tensors_and_codebooks": len(gains),
        "above_alternation": above,
        "alternation_above_percent_mean": round(statistics.mean(gains), 3),
        "alternation_above_percent_max": round(max(gains), 2),
        "cpu_seconds": {
            name: {"median": round(statistics.median(times), 3), "max": round(max(times), 3)}
            for name, times in seconds.items()
        },
        "slowest_cpu_seconds": round(slowest, 3),
        "thresholds": {
            "farthest_from_known": DIGITS,
            "farthest_from_full_sweep": SWEEP_ROUNDING,
            "above_alternation": 0,
            "slowest_cpu_seconds": SECONDS,
        },
    }
    passed = farthest <= DIGITS and from_sweep <= SWEEP_ROUNDING and above == 0 and slowest < SECONDS
    columns = ("weights", "codebook", "scale", "squared error", "alternating above %", "CPU-s", "CPU-s, full sweep")
    return BenchResult("codebook", passed, figures, columns, rows)


def _optima() -> tuple[list[tuple], float, float]:
    network = load_file(core_data() / "cifar10_resnet20.safetensors")
    rows, farthest, from_sweep = [], 0.0, 0.0
    for layer, known in OPTIMA.items():
        for codebook in BOOKS:
            started = time.thread_time()
            scale, error = (float(value) for value in optimal_scale(network[layer], codebook))
            seconds = time.thread_time() - started
            started = time.thread_time()
            swept = _full_sweep(network[layer].double().reshape(-1).abs().numpy(), codebook)
            sweep_seconds = time.thread_time() - started
            from_sweep = max(from_sweep, abs(error / swept - 1))
            expected = known[codebook.name] if codebook.name != "binary" else _binary(network[layer])
            for found, value in zip((scale, error), expected):
                if value is not None:
                    farthest = max(farthest, abs(found / value - 1))
            above = 100 * (float(alternating_scale(network[layer], codebook)[1]) / error - 1)
            shown = (f"{scale:.9g}", f"{error:.9g}", above, seconds, sweep_seconds)
            rows.append((f"ResNet-20 {layer}", codebook.name, *shown))
    return rows, farthest, from_sweep


def _full_sweep(magnitudes: np.ndarray, codebook: Codebook) -> float:
    """The least squared error by the paper's algorithm: sort all breakpoints, then take the largest A^2 / D."""
    levels = np.array([level for level in codebook.levels if level >= 0])
    exact = magnitudes.astype(np.longdouble)
    breakpoints = 2 * magnitudes[:, None] / (levels[1:] + levels[:-1])
    order = np.argsort(breakpoints, axis=None)
    lost_A = (magnitudes[:, None] * np.diff(levels)).reshape(-1)[order]
    lost_D = np.broadcast_to(np.diff(levels**2), breakpoints.shape).reshape(-1)[order]
    A = levels[-1] * exact.sum() - np.append(np.longdouble(0), np.cumsum(lost_A.astype(np.longdouble)))
    D = levels[-1] ** 2 * exact.size - np.append(np.longdouble(0), np.cumsum(lost_D.astype(np.longdouble)))
    used = np.flatnonzero(levels[levels > 0][0] ** 2 / 2 < D)  # at the end every weight is at zero
    return float((exact**2).sum() - (A[used] ** 2 / D[used]).max())


def _binary(weights: torch.Tensor) -> tuple[float, float]:
    """The mean magnitude and sum w^2 - (sum |w|)^2 / N, without rounding."""
    exact = [Fraction(float(weight)) for weight in weights.reshape(-1)]
    total = sum(abs(weight) for weight in exact)
    return float(total / len(exact)), float(sum(weight * weight for weight in exact) - total * total / len(exact))


def _problems() -> Iterator[tuple[torch.Tensor, Codebook, int | None]]:
    for name in NETWORKS:
        for weights in load_file(core_data() / f"{name}.safetensors").values():
            if weights.dim() > 1 and weights.is_floating_point():
                for codebook in BOOKS:
                    yield weights, codebook, None
                    yield weights, codebook, 0


def _against_alternation() -> tuple[int, list[float]]:
    above, gains = 0, []
    for weights, codebook, axis in track(list(_problems()), "comparing with the alternating solution"):
        error = optimal_scale(weights, codebook, axis=axis)[1]
        for steps in (0, 1000):
            usual = alternating_scale(weights, codebook, axis=axis, steps=steps)[1]
            above += int((error > usual * (1 + ROUNDING)).sum())
        if float(error.sum()) > 0:
            gains.append(100 * (float(usual.sum() / error.sum()) - 1))
    return above, gains


def _speed(repeats: int) -> dict[str, list[float]]:
    random = np.random.default_rng(0)
    normal = random.standard_normal(WEIGHTS)
    sparse = np.where(random.random(WEIGHTS) < 0.9, 0.0, normal)
    samples = {
        "normal": normal,
        "uniform": random.random(WEIGHTS) * 2 - 1,
        "Laplace": random.laplace(size=WEIGHTS),
        "heavy tails (Student t, 3)": random.standard_t(3, WEIGHTS),
        "normal, 90 % zeros": sparse,
        "int8 codes, all equal to a level": np.clip(np.rint(normal * 30), -127, 127) * 0.01,
    }
    samples["normal, a scale for each of 1,000 channels"] = normal.reshape(1000, -1)
    seconds: dict[str, list[float]] = {name: [] for name in samples}
    for _ in range(repeats):
        for name, values in samples.items():
            weights = torch.from_numpy(values.astype(np.float32))
            started = time.thread_time()
            optimal_scale(weights, integer(8), axis=0 if weights.dim() > 1 else None)
            seconds[name].append(time.thread_time() - started)
    return seconds
