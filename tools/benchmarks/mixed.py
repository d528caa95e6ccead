"""Mixed precision: the exact knapsack beside HAQ's DDPG search, on HAQ's own cost table and on a real network.

The table (Wang et al., CVPR 2019: MobileNetV2, batch 16, simulated accelerator) must have its published sums, and every
budget between its ends must be met, never exceeded, with optimality proved. No MobileNetV2 weights are at hand, so the
sensitivity there is a separable model: S(l, b_w, b_a) = g_l e_w(l, b_w) + h_l e_a(b_a), with e_w the relative squared
error of He-normal weights of the layer's shape on a symmetric grid for each channel, e_a that of half-normal
activations on an affine grid, and gains g, h drawn log-normally, several times. Under any such sum the knapsack must be
at or above both the published strategy and the search, at equal budgets and with the same layers kept.

Then the CIFAR ResNet-20 with its real weights, budgets on MACs x bits x bits equal to those of uniform bits. Bits are
chosen on training images alone: by sensitivities (divergence of the answers) measured without and with the correction
`moments` in place, and by a search whose reward is the accuracy with the correction in place, which is not separable.
Each choice is then carried out by `quantize`, calibrated on the same images, and tested on the 2,000 test images with
their labels, without the correction and with it. Corrected, the knapsack over the sensitivities that were measured so
must be at or above uniform bits and the search in accuracy.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tools.benchmarks.networks.haq_mobilenet import (
    haq_table,
    mobilenet_v2_layers,
    published_bits,
    separable_model,
)
from tools.benchmarks.networks.real import cifar_images, trained_cifar_resnet
from tools.data.top1 import top1
from torch import Tensor

from within.core import trace
from within.core.bench import BenchResult
from within.core.graph import Graph
from within.core.parallel import map as parallel_map
from within.core.progress import track
from within.core.quantize import QuantizationSettings, quantize
from within.core.quantize.bit_trial import BitTrial
from within.core.quantize.correction import Correction
from within.core.quantize.cost_table import UNTOUCHED, Bits, CostTable, mac_bits
from within.core.quantize.haq import describe_layers, first_and_last, haq
from within.core.quantize.mixed_precision import choose_bits, measure_sensitivity, sensitivity_of

SUMS = {8: 39_624_933, 4: 15_716_150, 1: 3_433_704}
PUBLISHED_COST, PUBLISHED_SHARE = 23_433_397, 0.591380
SWEEP = 400
GAINS = 3
EPISODES = ((PUBLISHED_SHARE, 300), (0.4, 100), (0.8, 100))  # share of the 8-bit cost, episodes of the search there
RESNET_BITS = (2, 3, 4, 5, 6, 8)
UNIFORM = (3, 4)  # bits of weights and activations between the first and the last layer
RESNET_EPISODES, FULL_EPISODES = 120, 600
CALIBRATION, BATCH = 256, 128
CORRECTIONS: tuple[Correction, ...] = ("none", "moments")


def run(full: bool = False) -> BenchResult:
    """Runs the bench; `full` sweeps more budgets, and gives every search 600 episodes, more seeds and images."""
    started = time.perf_counter()
    table = haq_table()
    cost = table.of(published_bits())
    sums = {bits: int(table.uniform(bits, bits)) for bits in SUMS}
    published_share = round(cost / table.uniform(8, 8), 6)
    images = 4 * CALIBRATION if full else CALIBRATION
    # The longest first, so that the workers end together.
    jobs: list[tuple[Any, ...]] = [
        ("table", share, FULL_EPISODES if full else episodes, seed)
        for seed in range(3 if full else 1)
        for share, episodes in EPISODES
    ]
    jobs += [("search", bits, FULL_EPISODES if full else RESNET_EPISODES, images) for bits in UNIFORM]
    jobs += [("sensitivity", correction, images) for correction in CORRECTIONS]
    jobs += [("sweep", SWEEP * (10 if full else 1), gains) for gains in range(GAINS)]
    found = dict(zip(jobs, _in_parallel(_chosen, jobs, "Choosing bits")))
    searches = [result for job, result in found.items() if job[0] == "table"]
    sweep = _together([result for job, result in found.items() if job[0] == "sweep"])
    resnet = _resnet(found, images)
    rows: list[tuple[Any, ...]] = []
    for each in searches:
        for method in ("knapsack", "HAQ"):
            rows.append(
                ("MobileNetV2 table", f"{each['share']:.3f} of 8 bits", method, each[f"{method}_cost"] / each["limit"],
                 each[f"{method}_value"], None, None, each[f"{method}_seconds"])
            )  # fmt: skip
    rows += [("CIFAR ResNet-20", *row) for row in resnet["rows"]]
    figures: dict[str, Any] = {
        "sums": sums,
        "published_cost": int(cost),
        "published_share": published_share,
        "exact": sums == SUMS and (int(cost), published_share) == (PUBLISHED_COST, PUBLISHED_SHARE),
        "sweep": sweep,
        "searches": searches,
        "resnet": resnet,
        "knapsack_at_or_above": resnet["separable_at_or_above"]
        and all(each["knapsack_value"] >= each["HAQ_value"] for each in searches),
        "never_above_the_budget": resnet["within_budget"]
        and sweep["over"] == 0
        and all(each[f"{method}_cost"] <= each["limit"] for each in searches for method in ("knapsack", "HAQ")),
        "labels_at_or_above": resnet["labels_at_or_above"],
        "full": full,
        "seconds": round(time.perf_counter() - started),
    }
    passed = figures["exact"] and figures["knapsack_at_or_above"] and figures["never_above_the_budget"]
    passed &= sweep["unproved"] == 0 and sweep["published_at_or_below"] and figures["labels_at_or_above"]
    columns = ("network", "budget", "method", "cost/budget", "value", "top-1 %", "top-1 %, corrected", "CPU-s")
    return BenchResult("mixed", passed, figures, columns, [tuple(map(_shown, row)) for row in rows])


def _chosen(job: tuple[Any, ...]) -> Any:
    kinds = {"table": _table_search, "search": _resnet_search, "sensitivity": _resnet_sensitivity, "sweep": _sweep}
    return kinds[job[0]](*job[1:])


def _sweep(count: int, gains: int) -> dict[str, Any]:
    """Solves for budgets over the whole range, both ends and their neighbours included."""
    table, low, high = haq_table(), SUMS[1], SUMS[8]
    losses = separable_model(table, gains)
    budgets = sorted({low, low + 1, high - 1, high, *np.linspace(low, high, count).astype(int).tolist()})
    found = [choose_bits(table, losses, budget) for budget in track(budgets, f"Budgets, sensitivity {gains + 1}")]
    return {
        "budgets": len(budgets),
        "over": sum(table.of(each.bits) > budget for each, budget in zip(found, budgets)),
        "unproved": sum(each.gap != 0 for each in found),
        "unused": [1 - each.cost / budget for each, budget in zip(found, budgets)],
        "at_the_published_budget": {
            "knapsack": choose_bits(table, losses, PUBLISHED_COST).value,
            "published_strategy": -sensitivity_of(table, losses, published_bits()),
        },
    }


def _together(sweeps: list[dict[str, Any]]) -> dict[str, Any]:
    unused = [share for each in sweeps for share in each["unused"]]
    at_published = [each["at_the_published_budget"] for each in sweeps]
    return {
        **{key: sum(each[key] for each in sweeps) for key in ("budgets", "over", "unproved")},
        "unused_share_median": float(np.median(unused)),
        "unused_share_largest": max(unused),
        "at_the_published_budget": at_published,
        "published_at_or_below": all(each["knapsack"] >= each["published_strategy"] for each in at_published),
    }


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


def _resnet_case(images: int) -> tuple[torch.nn.Module, Graph, CostTable, list[Tensor], Tensor]:
    """Returns the network, its graph and costs, and the training images that bits are chosen on, with labels."""
    calibration, labels = cifar_images("train", 0, images)
    model = trained_cifar_resnet(20)
    graph = trace(model, (calibration[:1],))
    table = mac_bits(graph, weight_bits=RESNET_BITS, activation_bits=RESNET_BITS)
    return model, graph, table, list(calibration.split(BATCH)), labels


def _uniform(table: CostTable, bits: int) -> list[Bits]:
    fixed = first_and_last(table)
    return [fixed.get(layer, (bits, bits)) for layer in range(len(table))]


def _resnet_sensitivity(correction: Correction, images: int) -> tuple[NDArray[np.float64], float]:
    """Returns sensitivities measured with a correction in place, and the CPU seconds they took."""
    model, _, table, batches, _ = _resnet_case(images)
    started = time.thread_time()
    trial = BitTrial(model, (batches[0][:1],), table, batches, correct=correction == "moments")
    return measure_sensitivity(trial.divergence, table), time.thread_time() - started


def _resnet_search(bits: int, episodes: int, images: int) -> tuple[tuple[Bits, ...], float]:
    """Returns what the search finds at the cost of uniform bits, rewarded with corrected accuracy, and CPU seconds."""
    model, graph, table, batches, labels = _resnet_case(images)
    started = time.thread_time()
    trial = BitTrial(model, (batches[0][:1],), table, batches, correct=True)

    def accuracy(bits: Sequence[Bits]) -> float:
        return 100 * float((trial(bits).argmax(1) == labels).float().mean())

    limit = table.of(_uniform(table, bits))
    found = haq(table, describe_layers(graph), accuracy, limit, episodes=episodes, seed=0)
    return found.bits, time.thread_time() - started


def _resnet(found: dict[tuple[Any, ...], Any], images: int) -> dict[str, Any]:
    """Returns uniform bits, both knapsacks and the search on the real network at equal budgets, tested on labels."""
    table = _resnet_case(images)[2]
    fixed = first_and_last(table)
    losses = {correction: found["sensitivity", correction, images] for correction in CORRECTIONS}
    arms: list[tuple[int, str, Sequence[Bits], float | None]] = []
    for bits in UNIFORM:
        limit = table.of(_uniform(table, bits))
        arms.append((bits, "uniform", _uniform(table, bits), None))
        for correction, name in zip(CORRECTIONS, ("knapsack, uncorrected", "knapsack")):
            measured, seconds = losses[correction]
            arms.append((bits, name, choose_bits(table, measured, limit, fixed=fixed).bits, seconds))
        arms.append((bits, "HAQ", *next(found[job] for job in found if job[:2] == ("search", bits))))
    jobs = [(None, correction) for correction in CORRECTIONS]
    jobs += [(tuple(chosen), correction) for _, _, chosen, _ in arms for correction in CORRECTIONS]
    accuracies = dict(zip(jobs, _in_parallel(partial(_tested, images=images), jobs, "Testing")))
    rows: list[tuple[Any, ...]] = [
        ("float", "float", None, None, *(accuracies[None, each] for each in CORRECTIONS), None)
    ]
    value, reached, within = {}, {}, True
    for bits, name, chosen, seconds in arms:
        limit = table.of(_uniform(table, bits))
        value[bits, name] = -sensitivity_of(table, losses["moments"][0], chosen)
        plain, reached[bits, name] = (accuracies[tuple(chosen), each] for each in CORRECTIONS)
        within &= table.of(chosen) <= limit
        share = table.of(chosen) / limit
        rows.append((f"as {bits} bits", name, share, value[bits, name], plain, reached[bits, name], seconds))
    return {
        "rows": rows,
        "bits": {f"{name}, as {bits} bits": chosen for bits, name, chosen, _ in arms},
        "separable_at_or_above": all(value[bits, "knapsack"] >= value[bits, name] - 1e-9 for bits, name in value),
        "labels_at_or_above": all(
            reached[bits, "knapsack"] >= reached[bits, name] for bits in UNIFORM for name in ("uniform", "HAQ")
        ),
        "within_budget": within,
        "images": images,
    }


def _tested(job: tuple[tuple[Bits, ...] | None, Correction], images: int) -> float:
    """Returns the top-1 accuracy on the test images of the network quantised to these bits; None is float."""
    chosen, correction = job
    model, _, table, batches, _ = _resnet_case(images)
    if chosen is not None:
        widest = RESNET_BITS[-1]  # of what a search leaves untouched: the image
        bits = {
            name: tuple(widest if each == UNTOUCHED else each for each in pair)
            for name, pair in zip(table.layers, chosen)
        }
        settings = QuantizationSettings(bits=bits, join=False, correction=correction)
        model = quantize(model, (batches[0][:1],), batches, settings).model.eval()
    return top1(model, *cifar_images("test"))


def _in_parallel(function: Any, jobs: Sequence[Any], description: str) -> list[Any]:
    return parallel_map(function, jobs, workers=min(2, os.cpu_count() or 1), description=description)


def _shown(value: Any) -> Any:
    return "" if value is None else value
