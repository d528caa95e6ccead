"""Modules whose weights are read and written under the names of the module they stand in for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def interchangeable(
    module: nn.Module,
    their_name: Callable[[str], str],
    *,
    read: Callable[[str, Tensor, Tensor], Tensor] = lambda name, value, own: value,
    write: Callable[[str, Tensor], Tensor] = lambda name, value: value,
) -> None:
    """Makes a module's `state_dict` and `load_state_dict` speak another's names.

    Arguments:
        module: whose parameters are all there already.
        their_name: of each of ours.
        read: returns a tensor of theirs as ours is, given our name, it, and our own tensor.
        write: returns a tensor of ours as theirs is, given our name and it.
    """
    names = {name: their_name(name) for name in nn.Module.state_dict(module)}

    def before(state: dict[str, Any], prefix: str, *_: Any) -> None:
        own = dict(module.named_parameters()) | dict(module.named_buffers())
        found = {ours: state.pop(prefix + theirs) for ours, theirs in names.items() if prefix + theirs in state}
        state.update({prefix + ours: read(ours, value, own[ours]) for ours, value in found.items()})

    def after(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
        found = {ours: state.pop(prefix + ours) for ours in names if prefix + ours in state}
        state.update({prefix + names[ours]: write(ours, value) for ours, value in found.items()})

    module._register_load_state_dict_pre_hook(before)
    module._register_state_dict_hook(after)
