"""A network as a user names it: one of our variants, an architecture of BasicSR, or a run directory.

imdn_x4                a variant, see `models.names`
basicsr:EDSR           an architecture of BasicSR's registry
runs/half              a run directory: a compressed network (plan and weights) or a trained one
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor, nn

from within.core.checkpoint import PLAN, WEIGHTS, load_into, load_state
from within.core.cli.configuration import load_config
from within.core.errors import WithinError
from within.core.named_network import NamedNetwork, recorded_network, run_among, with_attributes
from within.core.pruning import Plan, load, read_plan
from within.lowlevel.models import build, variant
from within.lowlevel.weights import load_weights

BASICSR = "basicsr:"
CONFIG = "config.py"
ATTRIBUTES = {"scale": 1, "size_multiple": 1}


@dataclass(frozen=True, eq=False)
class RestorationNetwork(NamedNetwork):
    """A network with what is known of it: see `NamedNetwork`; the model has `scale` and `size_multiple`.

    Attributes:
        channels: of the input image.
        task: what it was published for; "restore" where that is not known.
        told_the_level: whether a second input says how strong the noise is.
    """

    channels: int
    task: str = "restore"
    told_the_level: bool = False

    @property
    def scale(self) -> int:
        """Upscaling factor."""
        return int(getattr(self.model, "scale", 1))

    @property
    def size_multiple(self) -> int:
        """What height and width must be divisible by."""
        return int(getattr(self.model, "size_multiple", 1))

    def other_inputs(self, sigma: float | None, *, device: str | torch.device = "cpu") -> tuple[Tensor, ...]:
        """Returns the inputs besides the image: the noise level, `sigma` on the scale 0..255, where it is told.

        Raises:
            WithinError: when the network must be told and `sigma` is None.
        """
        if not self.told_the_level:
            return ()
        if sigma is None:
            raise WithinError("This network needs to know how strong the noise is", where=self.name, todo="give sigma")
        return (torch.full((1, 1, 1, 1), sigma / 255, device=device),)

    def at_level(self, model: nn.Module, sigma: float | None) -> nn.Module:
        """Returns a network of this kind as a function of the image alone: the noise level, where it is told, is fixed.

        Arguments:
            model: this network, or one compressed from it.
            sigma: see `other_inputs`.
        """
        others = self.other_inputs(sigma)
        return _AtNoiseLevel(model, *others) if others else model


class _AtNoiseLevel(nn.Module):
    """A network that is told the noise level, with that level fixed."""

    def __init__(self, model: nn.Module, noise_level: Float[Tensor, "1 1 1 1"]) -> None:
        super().__init__()
        self.model = model
        self.size_multiple = getattr(model, "size_multiple", 1)
        self.register_buffer("noise_level", noise_level)

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        return self.model(image, self.noise_level)


def open_network(
    name: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> RestorationNetwork:
    """Builds a network and loads its weights.

    Arguments:
        name: see the module. None where `weights` is a run directory that says what it holds.
        weights: a file in any published layout, or a run directory; None leaves a variant freshly initialised.
        arguments: constructor arguments of the dense network, beyond those of the name.

    Raises:
        WithinError: for unknown names, weights of another network, and damaged or incomplete run directories.
    """
    run = run_among(weights, name, holds=WEIGHTS)
    if run is not None:
        named = None if name is None or Path(name) == run else str(name)
        return _open_run(run, named, dict(arguments or {}))
    if name is None:
        raise WithinError("Nothing says which network it is", where=str(weights), todo="name it with --network")
    if weights is not None and Path(weights).is_dir():
        raise WithinError(f"The folder is no run directory: it has no {WEIGHTS}", where=str(weights))
    named, given = str(name), dict(arguments or {})
    model = builder(named, given)()
    if weights is not None:
        load_weights(model, weights)
    return _described(named, given, model)


def builder(name: str, arguments: Mapping[str, Any] | None = None) -> Callable[[], nn.Module]:
    """Returns the constructor of the dense network of a name."""
    given = dict(arguments or {})
    if name.startswith(BASICSR):
        from within.lowlevel.basicsr import build_basicsr

        return partial(build_basicsr, name.removeprefix(BASICSR), **given)
    return partial(build, name, **given)


def _described(name: str, arguments: dict[str, Any], model: nn.Module, **known: Any) -> RestorationNetwork:
    if name.startswith(BASICSR):
        return RestorationNetwork(name, arguments, model, int(arguments.get("num_in_ch", 3)), **known)
    found = variant(name)
    channels = int(arguments.get("channels", found.channels))
    return RestorationNetwork(name, arguments, model, channels, found.task, "noise_level" in found.inputs, **known)


def _open_run(run: Path, name: str | None, arguments: dict[str, Any]) -> RestorationNetwork:
    plan = read_plan(run / PLAN) if (run / PLAN).is_file() else None
    recorded, recorded_arguments = _recorded(run, plan)
    if name is None and recorded is None:
        raise WithinError(
            "The run directory does not say which network it holds", where=str(run), todo="name it with --network"
        )
    name = name or str(recorded)
    arguments = arguments or recorded_arguments
    dense = builder(name, arguments)
    if plan is not None:
        model = load(run, dense)
    else:
        model = dense()
        load_into(model, load_state(run / WEIGHTS), where=str(run / WEIGHTS))
    return _described(name, arguments, with_attributes(model, dense, ATTRIBUTES), plan=plan, run=run)


def _recorded(run: Path, plan: Plan | None) -> tuple[str | None, dict[str, Any]]:
    """Returns the network that a run directory names: in its plan, its configuration, or its weights."""
    config = load_config(run / CONFIG) if (run / CONFIG).is_file() else {}
    arguments = dict(config.get("arguments") or {})
    if plan is not None and "network" in plan.provenance:
        name, known = recorded_network(plan, where=str(run / PLAN))
        return name, known or arguments
    if isinstance(config.get("network"), str):
        return config["network"], arguments
    with safe_open(str(run / WEIGHTS), framework="pt") as handle:
        return (handle.metadata() or {}).get("network"), arguments
