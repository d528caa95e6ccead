"""BasicSR (Wang et al., https://github.com/XPixelGroup/BasicSR) as a partner: its architectures here, ours there.

`build_basicsr("EDSR")` builds one of its registered architectures, which is traced, pruned, tiled and exported as any
other module; `register()` puts ours into its registry, so that its option files can name them. Option files, LMDB and
metrics need no BasicSR: `options`, `data.lmdb` and `metrics` read and compute the same without it.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import io
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from within.core.device.inference import evaluating
from within.core.errors import WithinError
from within.core.graph.substitute import call_with, substitutes
from within.lowlevel.models import build
from within.lowlevel.models.variants import VARIANTS

PREFIX = "Within"
_OWN = "_basicsr"  # what BasicSR appends to names that other code bases register, too
_REMOVED_MODULE = "torchvision.transforms.functional_tensor"


def build_basicsr(name: str, **arguments: Any) -> nn.Module:
    """Builds an architecture of BasicSR's registry.

    Arguments:
        name: as registered, for example "EDSR".
        arguments: of its constructor. The numbers of image channels (`num_in_ch`, `num_out_ch`) are 3 unless given.

    Returns:
        the network, with `scale` and `size_multiple` as our own networks have them, found by running it on shapes; one
        that does not map an image to an image is returned as it is.

    Raises:
        WithinError: when BasicSR is absent, has no such architecture, or the architecture refuses the arguments.
    """
    registry = arch_registry()
    known = sorted(key.removesuffix(_OWN) for key in registry.keys())  # noqa: SIM118  (its iterator yields pairs)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise WithinError(
            f"BasicSR has no architecture {name!r}",
            todo=f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(known)}",
        )
    constructor = registry.get(name if name in registry else name + _OWN)
    accepted = inspect.signature(constructor).parameters
    given = {key: 3 for key in ("num_in_ch", "num_out_ch") if key in accepted} | arguments
    try:
        model: nn.Module = constructor(**given)
    except Exception as error:  # a constructor of others may raise anything
        raise WithinError(
            f"The architecture refuses its arguments ({type(error).__name__}: {error})",
            where=f"basicsr:{name}",
            todo=f"it takes {', '.join(accepted)}",
        ) from error
    _describe(model, given.get("num_in_ch", 3))
    return model


def register() -> tuple[str, ...]:
    """Registers our networks in BasicSR's registry; a second call changes nothing.

    Each class is `Within` and its name, with its own arguments (`type: WithinIMDN`, `scale: 4`); `WithinNetwork` builds
    a variant by name (`type: WithinNetwork`, `name: imdn_x4`).

    Returns:
        the registered names.

    Raises:
        WithinError: when BasicSR is absent.
    """
    registry = arch_registry()
    networks = {variant.network.__name__: variant.network for variant in VARIANTS.values()}
    entries: dict[str, Any] = {
        f"{PREFIX}{name}": type(f"{PREFIX}{name}", (network,), {"__doc__": network.__doc__, "__module__": __name__})
        for name, network in sorted(networks.items())
        if f"{PREFIX}{name}" not in registry
    }
    if WithinNetwork.__name__ not in registry:
        entries[WithinNetwork.__name__] = WithinNetwork
    for entry in entries.values():
        registry.register(entry)
    return tuple(sorted([*(f"{PREFIX}{name}" for name in networks), WithinNetwork.__name__]))


def WithinNetwork(name: str, **overrides: Any) -> nn.Module:  # noqa: N802  (the registry takes this name)
    """Builds one of our variants, see `within.lowlevel.models.build`."""
    return build(name, **overrides)


def arch_registry() -> Any:
    """Imports BasicSR and returns its registry of architectures.

    Raises:
        WithinError: when it is not installed or does not import.
    """
    try:
        _provide_functional_tensor()
        with contextlib.redirect_stdout(io.StringIO()):  # some of its modules print while they are imported
            importlib.import_module("basicsr.archs")
            found = importlib.import_module("basicsr.utils.registry").ARCH_REGISTRY
    except Exception as error:  # a torchvision built for another torch raises RuntimeError
        raise WithinError(
            f"BasicSR could not be imported ({type(error).__name__}: {error})",
            where="within-lowlevel[basicsr]",
            todo='pip install "within-lowlevel[basicsr]" with a torchvision that fits your torch, or, in the source '
            "workspace, make setup-integrations",
        ) from error
    return found


def _provide_functional_tensor() -> None:
    """Gives BasicSR the module from which it imports `rgb_to_grayscale`; torchvision dropped it in 0.17."""
    if _REMOVED_MODULE in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    functional = importlib.import_module("torchvision.transforms.functional")
    if importlib.util.find_spec(_REMOVED_MODULE) is None:
        module = ModuleType(_REMOVED_MODULE, "Where torchvision kept rgb_to_grayscale before 0.17.")
        module.rgb_to_grayscale = functional.rgb_to_grayscale  # type: ignore[attr-defined]
        sys.modules[_REMOVED_MODULE] = module


def _describe(model: nn.Module, channels: int) -> None:
    """Sets `scale` and `size_multiple`: the least power of two whose multiples the network takes at both sides."""
    for multiple in (1, 2, 4, 8, 16, 32, 64):
        side = 64 + multiple
        scale = _scale_at(model, channels, side, side + multiple)
        if scale is not None:
            model.scale = scale  # type: ignore[assignment]
            model.size_multiple = multiple  # type: ignore[assignment]
            return


def _scale_at(model: nn.Module, channels: int, height: int, width: int) -> int | None:
    """Returns by how much the network enlarges an image, None where it does not take it or returns something else."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    state = substitutes(model, fake.from_tensor)
    try:
        with evaluating(model), fake, _unchanged(model):
            output = call_with(model, state, (torch.empty(1, channels, height, width),))
    except Exception:  # a network of others may refuse in any way
        return None
    if not isinstance(output, Tensor) or output.ndim != 4 or output.shape[2] % height:
        return None
    scale = output.shape[2] // height
    return scale if output.shape[3] == scale * width else None


@contextlib.contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Puts back plain tensor attributes: some architectures replace theirs in `forward`."""
    kept = [
        (module, {name: value for name, value in vars(module).items() if isinstance(value, Tensor)})
        for module in model.modules()
    ]
    try:
        yield
    finally:
        for module, values in kept:
            vars(module).update(values)
