"""Plan tiles: the largest ones whose predicted peak memory fits, with the margin that keeps the result exact.

    peak = input + output + one tile's input + M(tile + 2 halo)

M is the exact live peak of a forward pass of that size (`within.core.cost.PeakMemory`), its output included. The halo
is the receptive-field radius rounded up to the network's total stride: results inside a tile then depend on real
pixels only, and at the borders of the image the network's own padding does what it does on the whole image.
Networks that look at the whole image (global pooling, instance normalisation, attention) are refused.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from within.core.cost import PeakMemory
from within.core.errors import WithinError
from within.core.graph import Graph, trace
from within.lowlevel.receptive_field import ReceptiveField, receptive_field

GraphFactory = Callable[[int, int], Graph]
"""From height and width of an image to the graph of the network at that size."""


@dataclass(frozen=True)
class TilePlan:
    """How an image is cut into tiles.

    Attributes:
        height, width, channels: of the image.
        tile: side of the largest tile that fits, without its halo; of the padded image where that fits whole.
        halo: input pixels around a tile that are computed with it and thrown away.
        rows, columns: number of tiles.
        window: height and width of what the network sees each time: tiles of equal size, halos included.
        overhead: ((tile + 2 halo) / tile)^2.
        peak_bytes: predicted peak of the run, input and output image included.
        untiled_bytes: the same without tiles.
        scale: of the network.
        size_multiple: the image is padded to multiples of it, as `restore` does.
        alignment: tiles start at multiples of it.
        exact: whether the result equals that of the whole image.
        reason: why there are tiles or none, and why they are not exact.
    """

    height: int
    width: int
    channels: int
    tile: int
    halo: int
    rows: int
    columns: int
    window: tuple[int, int]
    overhead: float
    peak_bytes: int
    untiled_bytes: int
    scale: int
    size_multiple: int
    alignment: int
    exact: bool
    reason: str

    @property
    def computed(self) -> float:
        """Pixels that the network computes over all tiles, for each pixel of the image."""
        return self.rows * self.columns * math.prod(self.window) / (self.height * self.width)

    def tiles(self) -> Iterator[tuple[Stretch, Stretch]]:
        """Yields the stretch of each tile along the height and along the width."""
        across = self._stretches(self.width, self.columns, self.window[1])
        for row in self._stretches(self.height, self.rows, self.window[0]):
            for column in across:
                yield row, column

    def _stretches(self, size: int, count: int, window: int) -> list[Stretch]:
        padded = size + -size % self.size_multiple
        step = window - 2 * self.halo - padded % self.alignment
        cuts = [0, *(self.halo + step * tile for tile in range(1, count)), size]
        return [Stretch(min(step * tile, padded - window), cuts[tile], cuts[tile + 1]) for tile in range(count)]


@dataclass(frozen=True)
class Stretch:
    """One tile along one axis: where its window starts, and where its own pixels start and end."""

    window: int
    start: int
    end: int


def plan(
    model: nn.Module | GraphFactory,
    budget_bytes: float,
    height: int,
    width: int,
    *,
    channels: int = 3,
    others: Sequence[Tensor] = (),
    size_multiple: int | None = None,
    allow_inexact: bool = False,
    memory: PeakMemory | None = None,
) -> TilePlan:
    """Returns the largest square tiles whose predicted peak fits, or one tile where the whole image does.

    Arguments:
        model: the network, or a function from height and width to its graph.
        budget_bytes: for the live tensors of the run, input and output image included, weights not.
        height, width: of the image.
        channels: of the image; unused with a function.
        others: further inputs of the model; they are the same for every tile.
        size_multiple: what height and width are padded to; by default the model's attribute, or 1.
        allow_inexact: plan for a network that looks at the whole image, too, with a warning.
        memory: how M is counted; give it a workspace table to count scratch memory of the operators as well.

    Raises:
        WithinError: when no tile fits (with the least budget), when the network is not local and `allow_inexact` is
            not given (with the operators), or when its output is no image of `scale` times the input's size.
    """
    if not math.isfinite(budget_bytes) or budget_bytes <= 0 or height < 1 or width < 1:
        raise WithinError(f"A budget of {budget_bytes} bytes for {height} x {width} pixels is impossible")
    multiple = size_multiple if size_multiple is not None else int(getattr(model, "size_multiple", 1))
    sizes = _Sizes(model if not isinstance(model, nn.Module) else _tracer(model, channels, others), memory)
    padded = (height + -height % multiple, width + -width % multiple)
    field, whole = sizes.field(padded), sizes.peak(padded)
    images = sizes.image_bytes(padded)
    share = height * width / math.prod(padded)
    given, returned = (round(share * size) for size in images)
    untiled = given + whole + (images[0] if padded != (height, width) else 0)
    known = {"height": height, "width": width, "channels": sizes.channels, "untiled_bytes": untiled}
    known |= {"size_multiple": multiple, "scale": field.scale}
    if untiled <= budget_bytes:
        return TilePlan(
            **known, tile=max(padded), halo=0, rows=1, columns=1, window=padded, overhead=1.0, peak_bytes=untiled,
            alignment=multiple, exact=True, reason="the whole image fits",
        )  # fmt: skip
    exact, reason = _locality(field, allow_inexact)
    alignment = math.lcm(field.stride, multiple)
    halo = math.ceil(max(field.radius, 1) / alignment) * alignment

    def window(tile: int) -> tuple[int, int]:
        sides = (min(size, tile + 2 * halo + size % alignment) for size in padded)
        return next(sides), next(sides)

    def predicted(at: tuple[int, int]) -> int:
        if sizes.field(at) != field:
            raise WithinError("The network does not do the same at every size", where=f"{at[0]} x {at[1]} pixels")
        return given + returned + sizes.image_bytes(at)[0] + sizes.peak(at)

    def estimated(tile: int) -> float:  # areas scale, up to what does not depend on the size
        return given + returned + (whole + images[0]) * math.prod(window(tile)) / math.prod(padded)

    most = (max(padded) - 1 - 2 * halo - min(size % alignment for size in padded)) // alignment
    if most < 1:
        raise WithinError(
            f"The image needs {_mib(untiled)} and cannot be cut into tiles: the network looks {field.radius} pixels "
            f"around, and the image is {height} x {width}",
            where=f"budget {_mib(budget_bytes)}",
            todo=f"raise the budget to {_mib(untiled)}, or compress the network to it",
        )
    guess = _largest(lambda count: estimated(count * alignment) <= budget_bytes, most, most)
    tile = alignment * _largest(lambda count: predicted(window(count * alignment)) <= budget_bytes, most, guess)
    if tile == 0:
        least = predicted(window(alignment))
        raise WithinError(
            f"No tile fits: one of {alignment} x {alignment} pixels with a halo of {halo} needs {_mib(least)}, "
            f"of which {_mib(given + returned)} are the input and output image",
            where=f"budget {_mib(budget_bytes)}",
            todo=f"raise the budget to {_mib(least)}"
            + (", or compress the network to it" if given + returned < budget_bytes else ""),
        )
    equal, counts = [], []
    for size in padded:
        inner = size - 2 * halo - size % alignment
        count = 1 if window(tile)[len(counts)] == size else math.ceil(inner / tile)
        step = math.ceil(inner / count / alignment) * alignment
        counts.append(1 if count == 1 else math.ceil(inner / step))
        equal.append(size if count == 1 else step + 2 * halo + size % alignment)
    used = (equal[0], equal[1])
    return TilePlan(
        **known, tile=tile, halo=halo, rows=counts[0], columns=counts[1], window=used,
        overhead=((tile + 2 * halo) / tile) ** 2, alignment=alignment, exact=exact, reason=reason,
        peak_bytes=predicted(used),
    )  # fmt: skip


class _Sizes:
    """What a network needs at each size, traced once a size."""

    def __init__(self, graph_at: GraphFactory, memory: PeakMemory | None) -> None:
        self._graph_at, self._memory = graph_at, memory or PeakMemory()
        self._known: dict[tuple[int, int], tuple[ReceptiveField, int, tuple[int, int]]] = {}
        self.channels = 0

    def field(self, size: tuple[int, int]) -> ReceptiveField:
        """Returns the receptive field; raises where the output is no image of the right size."""
        return self._at(size)[0]

    def peak(self, size: tuple[int, int]) -> int:
        """Returns M in bytes."""
        return self._at(size)[1]

    def image_bytes(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the bytes of the input and of the output image."""
        return self._at(size)[2]

    def _at(self, size: tuple[int, int]) -> tuple[ReceptiveField, int, tuple[int, int]]:
        if size not in self._known:
            graph = self._graph_at(*size)
            field = receptive_field(graph)
            if not field.scale:
                because = f", because of {_named(field)}" if field.non_local else ""
                raise WithinError(
                    f"The output of {type(graph.model).__name__} is no image whose pixels lie as those of the input, "
                    f"at a whole multiple of its size{because}",
                    where=f"{size[0]} x {size[1]} pixels",
                    todo="tiles are for networks from images to images",
                )
            names = (graph.input_names[0], graph.output_nodes[0].name)
            item, self.channels = graph.inputs[0].element_size(), int(graph.inputs[0].shape[1])
            given, returned = (math.prod(graph.shapes[name]) * item for name in names)
            self._known[size] = field, self._memory(graph), (given, returned)
        return self._known[size]


def _tracer(model: nn.Module, channels: int, others: Sequence[Tensor]) -> GraphFactory:
    like = next((value for value in model.parameters() if value.is_floating_point()), torch.empty(0))

    def graph_at(height: int, width: int) -> Graph:
        return trace(model, (like.new_empty(1, channels, height, width), *others))

    return graph_at


def _locality(field: ReceptiveField, allow_inexact: bool) -> tuple[bool, str]:
    if not field.non_local:
        return True, f"every output pixel depends on the {field.radius} pixels around it"
    reason = f"the network looks at the whole image: {_named(field)}"
    if not allow_inexact:
        raise WithinError(
            f"Tiles would change the result, because {reason}",
            todo="compress the network to the budget instead, or allow tiles that are not exact (allow_inexact)",
        )
    warnings.warn(f"The tiles are not exact, because {reason}.", stacklevel=3)
    return False, reason


def _named(field: ReceptiveField) -> str:
    """Returns the operators that are not local, each with its first place."""
    places: dict[tuple[str, str], list[str]] = {}
    for each in field.non_local:
        places.setdefault((each.kind, each.why), []).append(each.place)
    return "; ".join(
        f"{kind} in {found[0] or 'the network itself'}{f' and {len(found) - 1} more' if len(found) > 1 else ''} ({why})"
        for (kind, why), found in places.items()
    )


def _largest(fits: Callable[[int], bool], most: int, guess: int) -> int:
    """Returns the largest of 1..most that fits, 0 if none does; few calls where the guess is close."""
    low, high, step = 0, most + 1, 1
    candidate = min(max(guess, 1), most)
    while high - low > 1:
        if fits(candidate):
            low = candidate
            candidate = min(low + step, most) if high > most else (low + high) // 2
        else:
            high = candidate
            candidate = max(high - step, 1) if low == 0 else (low + high) // 2
        step *= 2
    return low


def _mib(size: float) -> str:
    return f"{size / 2**20:.2f} MiB"
