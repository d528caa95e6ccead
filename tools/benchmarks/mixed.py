"""Mixed precision: the exact knapsack beside HAQ's DDPG search, on HAQ's own cost table and on a real network.

The table (Wang et al., CVPR 2019: MobileNetV2, batch 16, simulated accelerator) must have its published sums, and every
budget between its ends must be met, never exceeded, with optimality proved. No MobileNetV2 weights are at hand, so the
sensitivity there is a separable model: S(l, b_w, b_a) = g_l e_w(l, b_w) + h_l e_a(b_a), with e_w the relative squared
error of He-normal weights of the layer's shape on a symmetric grid for each channel, e_a that of half-normal
activations on an affine grid, and gains g, h drawn log-normally, several times. Under any such sum the knapsack must be
at or above both the published strategy and the search, at equal budgets and with the same layers kept.

Then the CIFAR ResNet-20 with its real weights, budgets on MACs x bits x bits equal to those of uniform bits:
sensitivity measured on training images (divergence of the answers), accuracy on test images with their labels. There
the search optimises the accuracy on training images itself, which is not separable; both accuracies are reported as
they are.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tools.benchmarks.networks.fake_quantised import QuantisedResNet, quantised_activations, quantised_weights
from tools.benchmarks.networks.real import cifar_images, core_data, top1
from torch import Tensor

from within.core.bench import BenchResult
from within.core.parallel import map as parallel_map
from within.core.progress import track
from within.core.quantize.cost_table import Bits, CostTable, read_cost_table
from within.core.quantize.haq import LayerDescription, describe_layers, first_and_last, haq
from within.core.quantize.mixed_precision import choose_bits, measure_sensitivity, sensitivity_of
from within.core.train import reestimate_batch_norm

SUMS = {8: 39_624_933, 4: 15_716_150, 1: 3_433_704}
# The strategy for 60 % of the cost in the README of mit-han-lab/haq: (weight bits, activation bits) of 53 layers.
PUBLISHED = """
8,-1 7,7 5,6 4,6 5,6 5,7 5,6 7,4 4,6 4,6 7,7 5,6 4,6 7,3 5,7 4,7 7,3 5,7 4,7 7,7 4,7 4,7 6,4 6,7 4,7 7,4 6,7
5,7 7,4 6,7 5,7 7,4 6,7 6,7 6,4 5,7 6,7 6,4 5,7 6,7 7,7 4,7 7,7 7,7 4,7 7,7 7,7 4,7 7,7 7,7 4,7 7,7 8,8
"""
PUBLISHED_COST, PUBLISHED_SHARE = 23_433_397, 0.591380
SWEEP = 400
GAINS = 3
TABLE_RUNS = ((PUBLISHED_SHARE, 600), (0.4, 150), (0.8, 150))  # share of the 8-bit cost, episodes
RESNET_BITS = (2, 3, 4, 5, 6, 8)
UNIFORM = (3, 4)  # bits of weights and activations between the first and the last layer
RESNET_EPISODES = 120
CALIBRATION = 256


def run(full: bool = False) -> BenchResult:
    """Runs the bench; `full` sweeps more budgets, and gives every search 600 episodes, more seeds and images."""
    started = time.perf_counter()
    table = haq_table()
    published: list[Bits] = [tuple(int(bits) for bits in pair.split(",")) for pair in PUBLISHED.split()]  # type: ignore[misc]
    cost = table.of(published)
    figures: dict[str, Any] = {
        "sums": {bits: int(table.uniform(bits, bits)) for bits in SUMS},
        "published_cost": int(cost),
        "published_share": round(cost / table.uniform(8, 8), 6),
    }
    exact = figures["sums"] == SUMS and (int(cost), figures["published_share"]) == (PUBLISHED_COST, PUBLISHED_SHARE)
    sweep = _sweep(table, published, SWEEP * (10 if full else 1))
    seeds = range(3) if full else range(1)
    jobs = [("table", share, 600 if full else episodes, seed) for seed in seeds for share, episodes in TABLE_RUNS]
    jobs.insert(1, ("resnet", 0.0, 600 if full else RESNET_EPISODES, 0))
    work = partial(_job, images=4 * CALIBRATION if full else CALIBRATION)
    found = parallel_map(work, jobs, workers=min(2, os.cpu_count() or 1), description="Searching")
    searches = [result for job, result in zip(jobs, found) if job[0] == "table"]
    resnet = next(result for job, result in zip(jobs, found) if job[0] == "resnet")
    rows: list[tuple[Any, ...]] = []
    for each in searches:
        for method in ("knapsack", "HAQ"):
            rows.append(
                ("MobileNetV2 table", f"{each['share']:.3f} of 8 bits", method, each[f"{method}_cost"] / each["limit"],
                 each[f"{method}_value"], None, None, each[f"{method}_seconds"])
            )  # fmt: skip
    for each in resnet["rows"]:
        rows.append(("CIFAR ResNet-20", *each))
    above = all(each["knapsack_value"] >= each["HAQ_value"] for each in searches) and resnet["separable_at_or_above"]
    within = all(each[f"{method}_cost"] <= each["limit"] for each in searches for method in ("knapsack", "HAQ"))
    figures |= {
        "exact": exact,
        "sweep": sweep,
        "searches": searches,
        "resnet": resnet,
        "knapsack_at_or_above": above,
        "never_above_the_budget": within and resnet["within_budget"] and sweep["over"] == 0,
        "full": full,
        "seconds": round(time.perf_counter() - started),
    }
    passed = exact and above and figures["never_above_the_budget"]
    passed &= sweep["unproved"] == 0 and sweep["published_at_or_below"]
    columns = ("network", "budget", "method", "cost/budget", "value", "top-1 %", "top-1 %, BN again", "seconds")
    return BenchResult("mixed", passed, figures, columns, [tuple(map(_shown, row)) for row in rows])


def haq_table() -> CostTable:
    """Returns HAQ's table; -1 is read at array index -2, as the published code does."""
    path = core_data() / "haq_mobilenetv2_batch16_cost_table.npy"
    return read_cost_table(path, unit="simulated cycles", untouched=-2)


def mobilenet_v2_layers() -> list[LayerDescription]:
    """Returns the 53 layers of MobileNetV2 at 224 (Sandler et al., CVPR 2018, table 2), with 1,000 classes."""
    layers = [LayerDescription(False, 3, 32, 2, 3, 3 * 32 * 9, 224**2)]
    inputs, size = 32, 112
    for expansion, outputs, repeats, first_stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for number in range(repeats):
            stride, hidden = first_stride if number == 0 else 1, inputs * expansion
            if expansion > 1:
                layers.append(LayerDescription(False, inputs, hidden, 1, 1, inputs * hidden, size**2))
            layers.append(LayerDescription(True, hidden, hidden, stride, 3, hidden * 9, size**2))
            size //= stride
            layers.append(LayerDescription(False, hidden, outputs, 1, 1, hidden * outputs, size**2))
            inputs = outputs
    layers.append(LayerDescription(False, 320, 1280, 1, 1, 320 * 1280, size**2))
    layers.append(LayerDescription(False, 1280, 1000, 0, 1, 1280 * 1000, 1280))
    return layers


def separable_model(table: CostTable, seed: int) -> NDArray[np.float64]:
    """Returns the sensitivity model of this bench, shape of the table."""
    random = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    half_normal = torch.randn(20_000, generator=generator).abs()
    activations = [_relative(half_normal, quantised_activations(half_normal, bits)) for bits in table.activation_bits]
    losses = np.zeros(table.cost.shape)
    for layer, description in enumerate(mobilenet_v2_layers()):
        fan_in = description.kernel_size**2 * (1 if description.depthwise else description.in_channels)
        weights = torch.randn(min(description.out_channels, 64), fan_in, generator=generator)
        errors = [_relative(weights, quantised_weights(weights, bits)) for bits in table.weight_bits]
        losses[layer] = np.add.outer(
            math.exp(random.normal()) * np.asarray(errors), math.exp(random.normal()) * np.asarray(activations)
        )
    return losses


def _sweep(table: CostTable, published: Sequence[Bits], count: int) -> dict[str, Any]:
    """Solves for budgets over the whole range, both ends and their neighbours included."""
    low, high = SUMS[1], SUMS[8]
    budgets = sorted({low, low + 1, high - 1, high, *np.linspace(low, high, count).astype(int).tolist()})
    over = unproved = 0
    slack, losses = [], []
    for gains in range(GAINS):
        losses.append(separable_model(table, gains))
        for budget in track(budgets, f"Budgets, sensitivity {gains + 1} of {GAINS}"):
            found = choose_bits(table, losses[-1], budget)
            over += table.of(found.bits) > budget
            unproved += found.gap != 0
            slack.append(1 - found.cost / budget)
    ours = [choose_bits(table, loss, PUBLISHED_COST).value for loss in losses]
    at_published = list(zip(ours, [-sensitivity_of(table, loss, published) for loss in losses]))
    return {
        "budgets": len(budgets) * GAINS,
        "over": over,
        "unproved": unproved,
        "unused_share_median": float(np.median(slack)),
        "unused_share_largest": float(max(slack)),
        "at_the_published_budget": [{"knapsack": best, "published_strategy": theirs} for best, theirs in at_published],
        "published_at_or_below": all(best >= theirs for best, theirs in at_published),
    }


def _job(job: tuple[str, float, int, int], images: int) -> dict[str, Any]:
    kind, share, episodes, seed = job
    return _table_search(share, episodes, seed) if kind == "table" else _resnet_search(episodes, images, seed)


def _table_search(share: float, episodes: int, seed: int) -> dict[str, Any]:
    """Returns both methods on HAQ's table at one budget, under the same sensitivity and with the same layers kept."""
    table, losses = haq_table(), separable_model(haq_table(), seed)
    limit = PUBLISHED_COST if share == PUBLISHED_SHARE else round(share * table.uniform(8, 8))
    fixed = first_and_last(table)
    started = time.thread_time()
    ours = choose_bits(table, losses, limit, fixed=fixed)
    halfway = time.thread_time()
    # In percent of the largest loss, so that the reward has the size of an accuracy.
    unit = 100 / sensitivity_of(table, losses, [(1, 1)] * len(table))
    theirs = haq(
        table, mobilenet_v2_layers(), lambda bits: -unit * sensitivity_of(table, losses, bits), limit,
        episodes=episodes, seed=seed, float_accuracy=0.0,
    )  # fmt: skip
    return {
        "share": share,
        "limit": limit,
        "episodes": episodes,
        "seed": seed,
        "knapsack_value": ours.value,
        "knapsack_cost": ours.cost,
        "knapsack_seconds": halfway - started,
        "HAQ_value": -sensitivity_of(table, losses, theirs.bits),
        "HAQ_cost": theirs.cost,
        "HAQ_seconds": time.thread_time() - halfway,
    }


def _resnet_search(episodes: int, images: int, seed: int) -> dict[str, Any]:
    """Returns the accuracies of uniform bits, the knapsack and HAQ on the real network at equal budgets."""
    calibration, calibration_labels = cifar_images("train", 0, images)
    test, test_labels = cifar_images("test")
    network = QuantisedResNet(calibration, RESNET_BITS)
    table, fixed = network.table, first_and_last(network.table)
    expected = network.answers.log_softmax(1)

    def divergence(bits: Sequence[Bits]) -> float:
        network.set(bits)
        return float(F.kl_div(network(calibration).log_softmax(1), expected, reduction="batchmean", log_target=True))

    def accuracy(bits: Sequence[Bits]) -> float:
        network.set(bits)
        return 100 * float((network(calibration).argmax(1) == calibration_labels).float().mean())

    def tested(bits: Sequence[Bits]) -> tuple[float, float]:
        network.set(bits)
        state = {name: value.clone() for name, value in network.model.state_dict().items()}
        plain = top1(network.model, test, test_labels)
        reestimate_batch_norm(network.model, calibration.split(128))
        again = top1(network.model, test, test_labels)
        network.model.load_state_dict(state)
        return plain, again

    reached = tested([(-1, -1)] * len(table))
    rows: list[tuple[Any, ...]] = [("float", "float", None, None, *reached, None)]
    started = time.thread_time()
    losses = measure_sensitivity(divergence, table)
    measuring = time.thread_time() - started
    at_or_above, within = True, True
    for bits in UNIFORM:
        uniform = [fixed.get(layer, (bits, bits)) for layer in range(len(table))]
        limit = table.of(uniform)
        started = time.thread_time()
        ours = choose_bits(table, losses, limit, fixed=fixed)
        ours_seconds = measuring + time.thread_time() - started
        started = time.thread_time()
        theirs = haq(table, describe_layers(network.graph), accuracy, limit, episodes=episodes, seed=seed)
        theirs_seconds = time.thread_time() - started
        for method, chosen, seconds in (
            ("uniform", uniform, None), ("knapsack", ours.bits, ours_seconds), ("HAQ", theirs.bits, theirs_seconds),
        ):  # fmt: skip
            value = -sensitivity_of(table, losses, chosen)
            at_or_above &= ours.value >= value - 1e-9
            within &= table.of(chosen) <= limit
            name = f"as {bits} bits"
            rows.append((name, method, table.of(chosen) / limit, value, *tested(chosen), seconds))
    return {"rows": rows, "separable_at_or_above": at_or_above, "within_budget": within, "images": images}


def _relative(x: Tensor, quantised: Tensor) -> float:
    return float((x - quantised).square().sum() / x.square().sum())


def _shown(value: Any) -> Any:
    return "" if value is None else value
