"""Instrument (a): count the tensor storages that a run creates, from birth to release.

A dispatch mode sees every operator below autograd. The storage of each result is registered once, by the address of
its implementation, and a finaliser takes its bytes off when the last reference goes. The count is exact, the same on
every machine and under `FakeTensorMode` (nothing is computed), and blind to memory inside an operator.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from within.core.device.inference import evaluating
from within.core.device.memory.reading import MemoryReading
from within.core.graph.substitute import call_with, substitutes


@dataclass(frozen=True)
class StorageTrace:
    """The storages of one run.

    Attributes:
        peak: most bytes alive at once.
        timeline: for each step in order, its name and the most bytes alive while it ran.
        uncounted: operators whose results have no storage to count (sparse or opaque tensors).
    """

    peak: int
    timeline: tuple[tuple[str, int], ...]
    uncounted: tuple[str, ...] = ()


class StorageCounter(TorchDispatchMode):
    """Counts the storages created while the mode is on; those of `excluded` tensors and views of them never count."""

    def __init__(self, excluded: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self.step: str | None = None  # set by a graph executor, so that the timeline has one entry a node
        self.timeline: list[tuple[str, int]] = []
        self.uncounted: dict[str, None] = {}
        self._bytes: dict[int, int] = {}
        self._excluded = {tensor.untyped_storage()._cdata for tensor in excluded if _has_storage(tensor)}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._register(leaf, str(func))
        self._note(self.step or str(func))
        return result

    def begin(self, step: str) -> None:
        """Starts the named step of the timeline, so that a step that calls no operator has an entry too."""
        self.step = step
        self.timeline.append((step, self.live))

    def trace(self) -> StorageTrace:
        """Returns what was counted so far."""
        return StorageTrace(self.peak, tuple(self.timeline), tuple(self.uncounted))

    def _note(self, step: str) -> None:
        self.peak = max(self.peak, self.live)
        if self.step is not None and self.timeline and self.timeline[-1][0] == step:
            self.timeline[-1] = (step, max(self.timeline[-1][1], self.live))
        else:
            self.timeline.append((step, self.live))

    def _register(self, tensor: Tensor, operator: str) -> None:
        if not _has_storage(tensor):
            self.uncounted[operator] = None
            return
        storage = tensor.untyped_storage()
        address, size = storage._cdata, storage.nbytes()
        if address in self._excluded:
            return
        known = self._bytes.get(address)
        if known is None:
            # the finaliser holds no reference to the storage; its address is free for others only after it ran
            weakref.finalize(storage, self._release, address).atexit = False
        self._bytes[address] = size  # an operator may have resized a storage in place
        self.live += size - (known or 0)

    def _release(self, address: int) -> None:
        self.live -= self._bytes.pop(address, 0)


def count_storages(function: Callable[[], Any], *, excluded: Iterable[Tensor] = ()) -> StorageTrace:
    """Runs `function` without gradients and counts the storages that it creates; its result counts too."""
    counter = StorageCounter(excluded)
    with torch.no_grad(), counter:
        result = function()
    trace = counter.trace()
    del result
    return trace


def trace_eager(model: nn.Module, inputs: Sequence[Tensor], *, compute: bool = False) -> StorageTrace:
    """Counts the storages of the model's own forward in eval mode.

    Arguments:
        inputs: the example input; only shapes, types and memory formats matter unless `compute`.
        compute: run on real tensors. Needed when the control flow of the model depends on values.

    Returns:
        the trace; one timeline entry an ATen operator.
    """
    with evaluating(model):
        if compute:
            excluded = [*inputs, *model.parameters(), *model.buffers()]
            return count_storages(lambda: model(*inputs), excluded=excluded)
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        state = substitutes(model, fake.from_tensor)
        fake_inputs = [fake.from_tensor(value) for value in inputs]
        with fake:
            return count_storages(
                lambda: call_with(model, state, tuple(fake_inputs)),
                excluded=[*state.values(), *fake_inputs],
            )


def live_eager(model: nn.Module, inputs: Sequence[Tensor], *, compute: bool = False) -> MemoryReading:
    """Measures `live_eager`: the tensors alive at once while the model's own forward runs, in eval mode.

    See `trace_eager` for the arguments.
    """
    trace = trace_eager(model, inputs, compute=compute)
    note = "" if compute else "nothing computed (fake tensors)"
    return MemoryReading("storage counter: eager", "live_eager", trace.peak, _noted(trace, note))


def _noted(trace: StorageTrace, note: str) -> str:
    if not trace.uncounted:
        return note
    return "; ".join(filter(None, [note, f"not counted: {', '.join(trace.uncounted)}"]))


def _has_storage(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided
