"""The staircase of latency over channels: where between two measured widths nothing changes.

Hardware works on whole vectors and tiles of channels, so that time rises in steps; between two widths on one step it is
flat. A width is interpolated only when two measured neighbours, one on each side, differ by no more than their spread:
they bound one step (Shen, Yin, Molchanov, Mao, Liu, Alvarez: Structural Pruning via Latency-Saliency Knapsack, NeurIPS
2022, choose their group sizes by the width of these steps).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Point = tuple[float, float]
"""A measured time and its spread."""

TOLERANCE = 0.02  # a difference of more than this is a step, however noisy the measurement


@dataclass(frozen=True)
class Plateau:
    """A step of the staircase: neighbouring widths of about one time.

    Attributes:
        widths: first and last measured width on it.
        time: the mean of the times on it.
    """

    widths: tuple[int, int]
    time: float


def same_step(one: Point, other: Point) -> bool:
    """Whether two times agree within their spread, and within `TOLERANCE` in any case."""
    difference = abs(one[0] - other[0])
    return difference <= max(one[1], other[1]) and difference <= TOLERANCE * min(one[0], other[0])


def interpolate(measured: Mapping[tuple[int, ...], Point], widths: tuple[int, ...]) -> float | None:
    """Returns the time at `widths` if measured neighbours along one axis bound a step around it, else None.

    Arguments:
        measured: times of one kernel family by its widths, such as (channels in, channels out).
        widths: the widths in question.
    """
    if widths in measured:
        return measured[widths][0]
    for axis in range(len(widths)):
        others = widths[:axis] + widths[axis + 1 :]
        line = {
            known[axis]: point
            for known, point in measured.items()
            if len(known) == len(widths) and known[:axis] + known[axis + 1 :] == others
        }
        below = max((width for width in line if width < widths[axis]), default=None)
        above = min((width for width in line if width > widths[axis]), default=None)
        if below is not None and above is not None and same_step(line[below], line[above]):
            share = (widths[axis] - below) / (above - below)
            return line[below][0] * (1 - share) + line[above][0] * share
    return None


def plateaus(line: Sequence[tuple[int, Point]]) -> list[Plateau]:
    """Returns the steps along one line of measured widths, in order; their usual length is a good pruning step."""
    found: list[list[tuple[int, Point]]] = []
    for width, point in sorted(line):
        if found and all(same_step(point, other) for _, other in found[-1]):
            found[-1].append((width, point))
        else:
            found.append([(width, point)])
    return [Plateau((step[0][0], step[-1][0]), sum(point[0] for _, point in step) / len(step)) for step in found]
