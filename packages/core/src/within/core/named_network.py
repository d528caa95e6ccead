"""A network as a user names it: a variant with a file of weights, or a run directory whose plan says what it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from within.core.checkpoint import PLAN, WEIGHTS
from within.core.errors import WithinError
from within.core.plan import Plan, input_specs, read_plan


@dataclass(frozen=True, eq=False)
class NamedNetwork:
    """A network with what is known of it.

    Attributes:
        name, arguments: the variant, and the constructor arguments beyond those of the name.
        model: the network.
        plan: of the run directory it came from, or None.
        run: that directory, or None.
    """

    name: str
    arguments: Mapping[str, Any]
    model: Any = field(repr=False)
    plan: Plan | None = field(default=None, kw_only=True)
    run: Path | None = field(default=None, kw_only=True)

    @property
    def title(self) -> str:
        """What people call it: its run directory, or the variant."""
        return self.name if self.run is None else self.run.name


@dataclass(frozen=True)
class Origin:
    """What a user's name, weights and arguments come to.

    Attributes:
        name, arguments: of the variant; a user's arguments replace those on record.
        weights: a file that was given, apart from the run directory's own.
        run, plan: the run directory, and what it says of itself, or None.
    """

    name: str
    arguments: dict[str, Any]
    weights: Path | None = None
    run: Path | None = None
    plan: Plan | None = None


def find_origin(
    name: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Origin:
    """Returns which network is meant, and what its weights are.

    Arguments:
        name: a variant, or a run directory. None where `weights` is one.
        weights: a file, or a run directory, which then says which network it is.
        arguments: constructor arguments beyond those of the name.

    Raises:
        WithinError: when nothing says which network it is, or a folder is no run directory.
    """
    run = run_among(weights, name)
    plan = None if run is None else read_plan(run / PLAN)
    recorded: dict[str, Any] = {}
    if run is not None and plan is not None:
        name, recorded = recorded_network(plan, where=str(run / PLAN))
        weights = None if weights is None or Path(weights) == run else weights
    for given in (name, weights):
        if given is not None and Path(given).is_dir():
            raise WithinError(f"The folder is no run directory: it has no {PLAN} and {WEIGHTS}", where=str(given))
    if name is None:
        where = None if weights is None else str(weights)
        raise WithinError("Nothing says which network it is", where=where, todo="name it with --network")
    file = None if weights is None else Path(weights)
    return Origin(str(name), recorded | dict(arguments or {}), file, run, plan)


def run_among(*given: str | Path | None, holds: str = PLAN) -> Path | None:
    """Returns the first of some names that is a run directory, or None.

    Arguments:
        given: names, folders and files.
        holds: the file that makes a folder a run directory.
    """
    return next((Path(each) for each in given if each is not None and (Path(each) / holds).is_file()), None)


def recorded_network(plan: Plan, *, where: str) -> tuple[str, dict[str, Any]]:
    """Returns the variant and the constructor arguments that a plan was made with.

    Raises:
        WithinError: when the plan does not say.
    """
    if "network" not in plan.provenance:
        raise WithinError("The plan names no network of this package", where=where)
    return str(plan.provenance["network"]), dict(plan.provenance.get("arguments") or {})


def first_plan(
    model: nn.Module,
    name: str,
    arguments: Mapping[str, Any],
    inputs: tuple[torch.Tensor, ...] = (),
    *,
    seed: int | None = None,
) -> Plan:
    """Returns the plan of a network that is whole: what `find_origin` finds in its run directory.

    Arguments:
        model: the network.
        name, arguments: the variant, and what was given beyond its name.
        inputs: examples.
        seed: of its first weights.
    """
    origin = {"network": name, "arguments": dict(arguments)} | ({} if seed is None else {"seed": seed})
    return Plan(type(model).__name__, input_specs(inputs), provenance=origin)


def with_attributes(model: nn.Module, dense: Callable[[], nn.Module], attributes: Mapping[str, Any]) -> nn.Module:
    """Gives a compressed network, which may be a graph module, what the dense one says of itself.

    Arguments:
        model: the compressed network.
        dense: returns the dense one; called only where something is missing.
        attributes: names, and the values where the dense one does not say.
    """
    missing = [name for name in attributes if not hasattr(model, name)]
    if missing:
        original = dense()
        for name in missing:
            setattr(model, name, getattr(original, name, attributes[name]))
    return model
