"""Structured pruning of 44 architectures to half of every width: it must run, train, come back from disk and be right.

For each network, with random normalisation statistics and random atoms kept in every group:
  error        max |slim - masked| / max |masked|, the masked dense model normalising over the kept channels
  zeroed       the same against the user's own dense forward with the removed producers set to zero; it reads no index
               map on the consumers' side and no part of the masked reference, and applies where only layer and group
               normalisation modules depend on which channels exist (no softmax or mean over channels)
  varies       how much the slim output changes with the input and with the cut, relative to its size: two outputs that
               agree prove nothing where every input gives the same
  MACs left    counted on a new trace of the slim model, and equal to the prediction; so are the parameters
  trains       forward and backward at batch 2 in training mode give finite gradients
  reloaded     constructor + plan + safetensors give the same output bit for bit
"""

from __future__ import annotations

import copy
import json
import tempfile
import time
from functools import partial
from typing import Any

import torch
from tools.benchmarks.networks.families import ALL, build_network, inputs_for, randomise
from tools.benchmarks.networks.zeroed import is_exact, zero_producers
from torch import nn

from within.core import Macs, Params, load, prune, save, trace
from within.core.bench import BenchResult
from within.core.files import read_json
from within.core.graph import Graph
from within.core.parallel import map as parallel_map
from within.core.pruning import PruneResult
from within.core.pruning.slim import relative_difference, tensors

TOLERANCE = 1e-5
MACS_LEFT = 0.40
VARIES = 1e-3
REQUIRED = 42
SLOWEST_FIRST = ("mobilevit_s", "coat_tiny", "levit_128s", "rexnet_100", "ecaresnet50t", "res2net50_26w_4s")


def run(full: bool = False) -> BenchResult:
    """Runs the bench; `full` repeats it with four more seeds."""
    items = [(name, seed) for seed in range(5 if full else 1) for name in sorted(ALL, key=_cost)]
    found = parallel_map(check, items, description="Pruning")
    found.sort(key=lambda row: (row["seed"], ALL.index(row["network"])))
    first = [row for row in found if row["seed"] == 0]
    failed = sorted({row["network"] for row in found if not row["passed"]})
    zeroed = [row["zeroed"] for row in first if row["zeroed"] is not None]
    under = [row["network"] for row in found if not row.get("macs_left", 1.0) <= MACS_LEFT]
    figures = {
        "passed": len(ALL) - len(failed),
        "of": len(ALL),
        "failed": failed,
        "largest_error": max(row.get("error", float("inf")) for row in found),
        "largest_macs_left": max(row.get("macs_left", 1.0) for row in found),
        "under_pruned": under,
        "smallest_variation": min(row.get("varies", 0.0) for row in found),
        "zeroed_applies": len(zeroed),
        "zeroed_passed": sum(value < TOLERANCE for value in zeroed),
        "plain_modules": sum(row.get("form") == "module" for row in first),
        "cpu_seconds": round(sum(row["seconds"] for row in found), 1),
        "seeds": sorted({row["seed"] for row in found}),
        "thresholds": {"passed": REQUIRED, "largest_macs_left": MACS_LEFT, "error": TOLERANCE},
    }
    columns = (
        "network", "groups", "error", "zeroed", "varies", "MACs left", "params left", "recount", "trains", "reloaded",
        "form", "CPU-s", "pass",
    )  # fmt: skip
    rows = [_row(row) for row in found]
    return BenchResult("coverage", len(ALL) - len(failed) >= REQUIRED and not under, figures, columns, rows)


def check(item: tuple[str, int]) -> dict[str, Any]:
    """Prunes one network and returns its line of the table as JSON values."""
    name, seed = item
    started = time.thread_time()
    result: dict[str, Any] = {"network": name, "seed": seed, "zeroed": None, "passed": False}
    try:
        result |= _measure(name, seed)
        result["passed"] = (
            result["error"] < TOLERANCE
            and (result["zeroed"] is None or result["zeroed"] < TOLERANCE)
            and result["macs_left"] <= MACS_LEFT
            and result["varies"] > VARIES
            and all(result[key] for key in ("recount", "trains", "reloaded"))
        )
    except Exception as error:  # one network that fails must not hide the others
        result["failure"] = f"{type(error).__name__}: {error}"
    return result | {"seconds": round(time.thread_time() - started, 2)}


def _measure(name: str, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    model = build_network(name).eval()
    randomise(model, inputs_for(name, model, batch=2), seed)
    inputs = inputs_for(name, model)
    pruned = prune(model, inputs, widths=0.5, importance=partial(_random, seed=seed))
    graph, slim = pruned.graph, pruned.model
    slim_graph = trace(slim, inputs)
    macs, parameters = Macs()(slim_graph), sum(item.numel() for item in slim.parameters())
    recount = (macs, parameters) == (Macs()(graph, pruned.widths), Params()(graph, pruned.widths))
    zeroed = _zeroed_error(pruned, inputs) if is_exact(graph) else None
    return {
        "groups": len(graph.channel_groups()),
        "error": pruned.certificate.masked_slim_error,
        "zeroed": zeroed,
        "varies": _variation(slim, model, inputs),
        "macs_left": macs / Macs()(graph),
        "params_left": parameters / Params()(graph),
        "recount": recount,
        "trains": _trains(slim, inputs_for(name, model, batch=2)),
        "reloaded": _reloaded(pruned, name, inputs),
        "form": "graph" if isinstance(slim, torch.fx.GraphModule) else "module",
        "unsupported": [item.kind for item in graph.unsupported],
    }


def _random(graph: Graph, *, seed: int, **_: Any) -> dict[str, Any]:
    from within.core.pruning.importance import random

    return random(graph, seed=seed)


def _trains(slim: nn.Module, inputs: tuple[torch.Tensor, ...]) -> bool:
    """One forward and backward in training mode; the statistics are put back."""
    before = copy.deepcopy(slim.state_dict())
    slim.train()
    sum(item.square().mean() for item in tensors(slim(*inputs))).backward()
    gradients = [item.grad for item in slim.parameters() if item.grad is not None]
    slim.zero_grad()
    slim.eval()
    slim.load_state_dict(before)
    finite = all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    return finite and any(bool(gradient.any()) for gradient in gradients)


def _reloaded(pruned: PruneResult, name: str, inputs: tuple[torch.Tensor, ...]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        save(pruned, f"{folder}/run")
        json.dumps(read_json(f"{folder}/run/plan.json"))
        again = load(f"{folder}/run", partial(build_network, name)).eval()
    with torch.no_grad():
        pairs = zip(tensors(pruned.model(*inputs)), tensors(again(*inputs)), strict=True)
        return all(torch.equal(first, second) for first, second in pairs)


def _variation(slim: nn.Module, model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
    """Returns the lesser of the slim model's difference between two inputs and its difference from the dense model."""
    others = tuple(blotches(item.shape) for item in inputs)
    with torch.no_grad():
        result, moved, dense = (
            tensors(module(*given)) for module, given in ((slim, inputs), (slim, others), (model, inputs))
        )
    return min(
        relative_difference(other, own) for group in (moved, dense) for other, own in zip(group, result, strict=True)
    )


def blotches(shape: torch.Size) -> torch.Tensor:
    """Returns images of a few large spots; noise looks the same to a network that averages over positions."""
    spots = 3 * torch.randn(*shape[:2], 4, 4, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(spots, shape[2:], mode="bilinear")


def _zeroed_error(pruned: PruneResult, inputs: tuple[torch.Tensor, ...]) -> float:
    graph = pruned.graph
    dense = copy.deepcopy(graph.model).eval()
    zero_producers(dense, graph, pruned.plan.steps[-1].arguments["kept"])
    with torch.no_grad():
        pairs = zip(tensors(pruned.model(*inputs)), tensors(dense(*inputs)), strict=True)
        return max(relative_difference(first, second) for first, second in pairs)


def _cost(name: str) -> tuple[int, int]:
    slow = SLOWEST_FIRST.index(name) if name in SLOWEST_FIRST else len(SLOWEST_FIRST)
    return slow, ALL.index(name)


def _row(row: dict[str, Any]) -> list[Any]:
    if "failure" in row:
        return [row["network"], *["-"] * 9, row["failure"][:60], row["seconds"], False]
    return [
        row["network"], row["groups"], f"{row['error']:.1e}",
        "-" if row["zeroed"] is None else f"{row['zeroed']:.1e}", f"{row['varies']:.1e}",
        f"{row['macs_left']:.3f}", f"{row['params_left']:.3f}", row["recount"], row["trains"], row["reloaded"],
        row["form"], row["seconds"], row["passed"],
    ]  # fmt: skip
