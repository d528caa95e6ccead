"""What the layouts of the public tool boxes have in common: their name for each of ours, and tensors turned round."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from within.core.errors import WithinError
from within.perception3d.models.bev_layers import BevUpsample
from within.perception3d.models.detector import Detector

Rename = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class Layout:
    """How a tool box keeps a detector's weights.

    Attributes:
        names: its name for each of ours.
        sparse: weights of sparse convolutions (of ours).
        kernel_first: write those as spconv 1 has them, (*kernel, in, out), and not as spconv 2, (out, *kernel, in).
        flipped: tensors whose two rows it keeps in the other order.
        transposed: weights of 1 x 1 transposed convolutions, which are convolutions there.
        ignored: beginnings of names of tensors there that are no weights.
    """

    names: Mapping[str, str]
    sparse: frozenset[str] = frozenset()
    kernel_first: bool = False
    flipped: frozenset[str] = frozenset()
    transposed: frozenset[str] = frozenset()
    ignored: tuple[str, ...] = ()


def renamed(name: str, renames: Iterable[Rename]) -> str:
    """Returns the name after the first rule whose expression it begins with.

    Raises:
        WithinError: when there is none.
    """
    for pattern, replacement in renames:
        found, count = re.subn(pattern, replacement, name, count=1)
        if count:
            return found
    raise WithinError(f"The tensor {name} has no counterpart there", todo="convert a detector without extra parts")


def sparse_weights(detector: Detector) -> frozenset[str]:
    """Returns the names of weights of sparse convolutions over three axes."""
    return frozenset(name for name, value in detector.state_dict().items() if value.dim() == 5)


def unit_upsamples(detector: Detector) -> frozenset[str]:
    """Returns the names of weights of 1 x 1 transposed convolutions."""
    return frozenset(
        f"{name}.weight"
        for name, module in detector.named_modules()
        if isinstance(module, BevUpsample) and module.kernel_size == (1, 1)
    )


def outward(state: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Returns our weights as the tool box keeps them."""
    found = {}
    for name, value in state.items():
        if name in layout.sparse and layout.kernel_first:
            value = value.movedim(0, -1)
        if name in layout.flipped:
            value = value.flip(0)
        if name in layout.transposed:
            value = value.transpose(0, 1)
        found[layout.names[name]] = value.detach().clone().contiguous()
    return found


def inward(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Returns the tool box's weights under our names and as we keep them; what has no counterpart keeps its name.

    Arguments:
        tensors: by their names.
        own: our state, whose shapes tell spconv 1 from spconv 2.
        layout: of the tool box.
    """
    ours = {theirs: name for name, theirs in layout.names.items()}
    found = {}
    for theirs, value in tensors.items():
        if theirs.startswith(layout.ignored) and layout.ignored:
            continue
        name = ours.get(theirs, theirs)
        if name in layout.sparse and value.dim() == 5 and value.shape != own[name].shape:
            moved = value.movedim(-1, 0)
            value = moved if moved.shape == own[name].shape else value
        if name in layout.flipped:
            value = value.flip(0)
        if name in layout.transposed and value.dim() == 4:
            value = value.transpose(0, 1)
        found[name] = value.contiguous()
    counters = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
    return counters | found


def matched(tensors: Mapping[str, Tensor], layout: Layout) -> float:
    """Returns the share of a layout's names that a file has."""
    names: Sequence[str] = [name for name in layout.names.values() if not name.endswith("num_batches_tracked")]
    return sum(name in tensors for name in names) / max(len(names), 1)
