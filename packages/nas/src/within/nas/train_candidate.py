"""Evaluates an architecture by training its network and timing it on this machine: what a search asks for.

In a configuration: evaluate = "within.nas.train_candidate:evaluate".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from within.core import Macs, Params, trace
from within.core.cli.factory import find_factory
from within.core.device import measure
from within.core.errors import WithinError
from within.core.train import fit
from within.core.train.batches import as_source
from within.core.train.randomness import seeded
from within.nas.networks.cell_network import CellNetwork
from within.nas.networks.nasbench201_network import Nasbench201Network
from within.nas.spaces import Architecture, darts, nasnet_cell

NETWORKS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        "nasbench201": Nasbench201Network,
        "darts": lambda architecture, **options: CellNetwork(*darts.cells(architecture), **options),
        "nasnet_cell": lambda architecture, **options: CellNetwork(*nasnet_cell.cells(architecture), **options),
    }
)


def evaluate(
    architecture: Architecture,
    *,
    data: str,
    network: str = "nasbench201",
    options: Mapping[str, Any] = MappingProxyType({}),
    training: str = "tools.data.cifar10:training",
    accuracy: str = "tools.data.cifar10:accuracy",
    epochs: int = 12,
    batch_size: int = 256,
    rate: float = 0.1,
    picture: int = 32,
    runtime: str = "onnxruntime",
    repeats: int = 10,
    seed: int = 0,
) -> dict[str, float]:
    """Returns the accuracy of a trained network, in per cent, its latency, parameters and multiply-accumulates.

    Arguments:
        architecture: to be evaluated.
        data: folder of the data set.
        network: one of `NETWORKS`.
        options: of its constructor, such as `classes`.
        training: module:function that gives the training items of a folder.
        accuracy: module:function that gives figures of a folder and a network; the first one is the accuracy.
        epochs, batch_size, rate: of SGD with Nesterov momentum 0.9, weight decay 5e-4 and a cosine schedule.
        picture: height and width for latency and counts, one picture.
        runtime, repeats: see `within.core.device.measure`; the latency is the median.
        seed: of initial weights and training.

    Raises:
        WithinError: for an unknown network or missing data.
    """
    if network not in NETWORKS:
        raise WithinError(f"There is no network {network!r}", todo=f"choose one of {', '.join(NETWORKS)}")
    items, size, _ = as_source(find_factory(training)(Path(data)), batch_size, None)
    size = min(size, len(items))
    model = seeded(seed, lambda: NETWORKS[network](architecture, **options))
    fit(
        model,
        items,
        loss=F.cross_entropy,
        iterations=epochs * math.ceil(len(items) / size),
        batch_size=size,
        optimizer={"type": "SGD", "lr": rate, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
        schedule="cosine",
        seed=seed,
        description=f"Training {list(architecture)}",
    )
    model.eval()
    example = (torch.zeros(1, 3, picture, picture),)
    graph = trace(model, example)
    timing = measure(model, example, runtime=runtime, repeats=repeats)["model"]
    figures = find_factory(accuracy)(Path(data), model)
    return {
        "accuracy": float(next(iter(figures.values()))),
        "milliseconds": 1e3 * timing.median,
        "params": float(Params()(graph)),
        "macs": float(Macs()(graph)),
    }
