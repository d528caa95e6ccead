"""Which of the two kinds a network is, a detector or one on points (PVCNN), and what trains and evaluates it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from within.core.checkpoint import PLAN
from within.core.cli.configuration import read_config
from within.core.named_network import run_among
from within.core.plan import read_plan
from within.perception3d.pvcnn import registry


def trainer(config: str | Path | Mapping[str, Any]) -> Callable[..., Any]:
    """Returns what trains the network of a configuration."""
    if is_on_points(read_config(config)[0].to_dict()):
        from within.perception3d.pvcnn.train import main as train_points

        return train_points
    from within.perception3d.train import main

    return main


def evaluator(config: str | Path | Mapping[str, Any]) -> Callable[..., Any]:
    """Returns what evaluates the network of a configuration."""
    if is_on_points(read_config(config)[0].to_dict()):
        from within.perception3d.pvcnn.eval import main as evaluate_points

        return evaluate_points
    from within.perception3d.eval import main

    return main


def is_on_points(settings: Mapping[str, Any]) -> bool:
    """Returns whether the network, by name or as a run directory, is one of `pvcnn`."""
    run = run_among(settings.get("weights"), settings.get("network"))
    name = settings.get("network") if run is None else read_plan(run / PLAN).provenance.get("network")
    return str(name) in registry.names()
