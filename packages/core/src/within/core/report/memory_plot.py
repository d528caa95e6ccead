"""Memory over time as inline SVG: live bytes while each operator runs, split into the tensors alive at the peak.

The colours are CSS classes, so that the plot follows the page into dark mode and print. The plots of one report share
the vertical scale; otherwise "half the memory" would not look like half.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from within.core.report.content import AliveTensor, MemoryTimeline
from within.core.report.quantity import MEBIBYTE, quantity

WIDTH, HEIGHT = 960, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 26, 34
Scale = Callable[[float], float]  # from data to drawing units
COLOURS = 7  # classes band-0 ... band-6; smaller tensors share the colour of the rest


def memory_plot(timeline: MemoryTimeline, largest: float, limit: float | None = None) -> str:
    """Returns an SVG element.

    Arguments:
        timeline: what to draw.
        largest: bytes at the top of the vertical axis.
        limit: a memory budget in bytes, drawn as a dashed line.
    """
    count = len(timeline.operators)
    step = tick_step(largest / MEBIBYTE)
    top = max(step, math.ceil(largest / MEBIBYTE / step - 1e-9) * step) * MEBIBYTE

    def x(index: float) -> float:
        return LEFT + index * (WIDTH - LEFT - RIGHT) / count

    def y(amount: float) -> float:
        return HEIGHT - BOTTOM - amount * (HEIGHT - TOP - BOTTOM) / top

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="plot" '
        f'aria-label="Live memory of the {escape(timeline.label)} model over its {count} operators, '
        f'peak {quantity(timeline.peak, "B")}">'
    ]
    ticks = round(top / MEBIBYTE / step)
    for tick in range(ticks + 1):
        level = y(tick * step * MEBIBYTE)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 6}" y="{level + 4:.1f}">{tick * step:g}</text>')
    parts.append(f'<text class="tick" x="4" y="14">MiB, {escape(timeline.instrument)}</text>')
    for index in _index_ticks(count):
        parts.append(f'<text class="tick middle" x="{x(index + 0.5):.1f}" y="{HEIGHT - 18}">{index}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="tick middle" x="{middle:.0f}" y="{HEIGHT - 3}">operator, in execution order</text>')

    floor = [0.0] * count
    parts.append(_band(floor, [float(live) for live in timeline.live_bytes], x, y, "rest"))
    for colour, tensor in enumerate(coloured(timeline.alive_at_peak)):
        ceiling = [
            height + (tensor.bytes if tensor.born <= index <= tensor.last_used else 0)
            for index, height in enumerate(floor)
        ]
        parts.append(_band(floor, ceiling, x, y, f"band-{colour}", tensor.born, tensor.last_used + 1))
        floor = ceiling
    outline = _steps([float(live) for live in timeline.live_bytes], x, y)
    parts.append(f'<path class="outline" d="M{outline}"/>')
    if limit is not None and limit <= top:
        left = timeline.peak_index > count / 2  # the label goes where the peak's is not
        parts.append(
            f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(limit):.1f}" y2="{y(limit):.1f}"/>'
            f'<text class="limit-label {"start" if left else "end"}" x="{LEFT + 8 if left else WIDTH - RIGHT}" '
            f'y="{y(limit) - 6:.1f}">budget {quantity(limit, "B")}</text>'
        )
    parts.append(_peak_mark(timeline, x(timeline.peak_index + 0.5), y(timeline.peak)))
    parts.extend(_tooltips(timeline, x))
    parts.append("</svg>")
    return "".join(parts)


def coloured(tensors: Sequence[AliveTensor]) -> list[AliveTensor]:
    """Returns the largest tensors at the peak, oldest first: the order in which their bands are stacked."""
    largest = sorted(tensors, key=lambda tensor: (-tensor.bytes, tensor.born, tensor.name))[:COLOURS]
    return sorted(largest, key=lambda tensor: (tensor.born, tensor.name))


def tick_step(largest: float) -> float:
    """Returns the round distance (1, 2 or 5 times a power of ten) that puts four to ten ticks up to `largest`."""
    if largest <= 0:
        return 1.0
    raw = largest / 5
    magnitude = 10.0 ** math.floor(math.log10(raw))
    return next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw * (1 - 1e-9))


def _band(
    floor: Sequence[float],
    ceiling: Sequence[float],
    x: Scale,
    y: Scale,
    kind: str,
    first: int = 0,
    last: int | None = None,
) -> str:
    """Returns a filled step area between two levels over the operators first..last."""
    last = len(floor) if last is None else min(last, len(floor))
    upper = _steps(ceiling[first:last], lambda index: x(first + index), y)
    lower = _steps(floor[first:last], lambda index: x(first + index), y).split(" ")
    return f'<path class="{kind}" d="M{upper} L{" ".join(reversed(lower))} Z"/>'


def _steps(levels: Sequence[float], x: Scale, y: Scale) -> str:
    points: list[str] = []
    for index, level in enumerate(levels):
        if index and levels[index - 1] == level:
            points.pop()
        else:
            points.append(f"{x(index):.1f},{y(level):.1f}")
        points.append(f"{x(index + 1):.1f},{y(level):.1f}")
    return " ".join(points)


def _peak_mark(timeline: MemoryTimeline, across: float, level: float) -> str:
    anchor = "end" if across > WIDTH * 0.6 else "start" if across < WIDTH * 0.4 else "middle"
    label = f"{quantity(timeline.peak, 'B')} at {timeline.operators[timeline.peak_index]}"
    return (
        f'<circle class="peak" cx="{across:.1f}" cy="{level:.1f}" r="3.5"/>'
        f'<text class="peak-label {anchor}" x="{across:.1f}" y="{max(level - 8, 12):.1f}">{escape(label)}</text>'
    )


def _tooltips(timeline: MemoryTimeline, x: Scale) -> list[str]:
    height = HEIGHT - TOP - BOTTOM
    width = x(1) - x(0)
    return [
        f'<rect class="hover" x="{x(index):.1f}" y="{TOP}" width="{width:.2f}" height="{height}">'
        f"<title>{index} {escape(name)}: {quantity(live, 'B')}</title></rect>"
        for index, (name, live) in enumerate(zip(timeline.operators, timeline.live_bytes, strict=True))
    ]


def _index_ticks(count: int) -> list[int]:
    step = max(1, int(tick_step(count)))
    return list(range(0, count, step))
