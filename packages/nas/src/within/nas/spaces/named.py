"""Spaces by name, and what their networks cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from within.core.errors import WithinError
from within.nas.spaces import (
    accel_nasbench,
    darts,
    mobile_net,
    nasbench101,
    nasbench201,
    nasbench_macro,
    nasnet_cell,
    transnasbench101,
)
from within.nas.spaces.space import Architecture, Space

MODULES = {
    "nasbench201": nasbench201,
    "nasbench101": nasbench101,
    "nasbench_macro": nasbench_macro,
    "accel_nasbench": accel_nasbench,
    "nasnet_cell": nasnet_cell,
    "transnasbench101": transnasbench101,
    "darts": darts,
    "mobile_net_v3": mobile_net,
}
SPACES: Mapping[str, Space] = MappingProxyType({name: module.SPACE for name, module in MODULES.items()})


def space(name: str) -> Space:
    """Returns a space.

    Raises:
        WithinError: when there is none of this name.
    """
    if name not in SPACES:
        raise WithinError(f"There is no space {name!r}", todo=f"choose one of {', '.join(SPACES)}")
    return SPACES[name]


def costs(name: str) -> Mapping[str, Callable[[Architecture], int]]:
    """Returns the exact costs of a space's networks at their usual size: `params` and `macs`.

    Raises:
        WithinError: when there is no space of this name.
    """
    space(name)
    return MappingProxyType({"params": MODULES[name].parameters, "macs": MODULES[name].macs})
