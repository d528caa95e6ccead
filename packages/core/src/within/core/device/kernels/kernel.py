"""`Kernel`: one piece of work that a runtime executes as a whole, described by all that its time depends on.

It is an operator, or several that the runtime fuses: a convolution with its batch normalisation, residual addition and
activation, say. The sizes are those that really run, padding to the runtime's channel blocks included, so that two
widths which cost the same because the same code runs on the same sizes are one kernel.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from within.core.graph.operator import Shape

Layout = Literal["plain", "blocked", "channels_last"]
Setting = int | float | str | tuple[int, ...]


@dataclass(frozen=True)
class Kernel:
    """One kernel at one size, in fp32.

    Attributes:
        kind: what it computes, such as `conv`; `aten` for an operator that is run as PyTorch defines it.
        layout: how its activations lie in memory: NCHW, channels in blocks, or channels last.
        inputs: shapes of the activations it reads.
        constants: shapes of its weights.
        outputs: shapes of what it writes.
        settings: whatever else decides its time, by name: `stride`, `padding`, `dilation`, `groups`, `activation`,
            `add` (1 where it adds a further input to its result), ...
    """

    kind: str
    layout: Layout
    inputs: tuple[Shape, ...]
    constants: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    settings: tuple[tuple[str, Setting], ...] = ()

    def setting(self, name: str, default: Any = None) -> Any:
        """Returns a setting, or `default` when there is none of that name."""
        return dict(self.settings).get(name, default)

    @cached_property
    def key(self) -> str:
        """The kernel as one line of JSON, the same in every process."""
        return json.dumps(
            [self.kind, self.layout, self.inputs, self.constants, self.outputs, self.settings], separators=(",", ":")
        )

    @staticmethod
    def from_key(key: str) -> Kernel:
        """Returns the kernel that a key was made of."""
        kind, layout, inputs, constants, outputs, settings = json.loads(key)
        return Kernel(
            kind,
            layout,
            tuple(map(tuple, inputs)),
            tuple(map(tuple, constants)),
            tuple(map(tuple, outputs)),
            tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in settings),
        )

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """The channel numbers that a cut changes: in and out for a dense convolution, one for a depthwise one.

        Empty for kernels whose sizes cannot be told apart like this; between those nothing is interpolated.
        """
        if self.kind in ("conv", "conv_transpose", "linear"):
            channels = (_channels(self.kind, self.inputs[0]), _channels(self.kind, self.outputs[0]))
            return channels[:1] if self._depthwise else channels
        if self.kind in ("aten", "session", "reshape"):
            return ()
        return tuple(shape[1] for shape in self.inputs if len(shape) > 1)

    @cached_property
    def family(self) -> str:
        """What is left of the key without the channel numbers: kernels of one family differ in `widths` alone."""
        settings = tuple((name, value) for name, value in self.settings if name != "groups" or not self._depthwise)
        return json.dumps(
            [
                self.kind,
                self.layout,
                "depthwise" if self._depthwise else "",
                [_without_channels(self.kind, shape) for shape in self.inputs],
                [shape[2:] for shape in self.constants],
                [_without_channels(self.kind, shape) for shape in self.outputs],
                settings,
            ],
            separators=(",", ":"),
        )

    @property
    def bytes(self) -> int:
        """Bytes of all that it touches."""
        return 4 * sum(elements(shape) for shape in (*self.inputs, *self.constants, *self.outputs))

    @property
    def _depthwise(self) -> bool:
        groups = self.setting("groups", 1)
        return groups > 1 and groups == self.inputs[0][1] == self.outputs[0][1]


def elements(shape: Shape) -> int:
    """Returns the number of elements of a shape."""
    count = 1
    for size in shape:
        count *= size
    return count


def _channels(kind: str, shape: Shape) -> int:
    return shape[-1] if kind == "linear" else shape[1]


def _without_channels(kind: str, shape: Shape) -> Shape:
    if kind == "linear":
        return shape[:-1]
    return shape[:1] + shape[2:]
