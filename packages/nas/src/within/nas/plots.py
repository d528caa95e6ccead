"""Plots of rankings and searches, as pictures of a report and as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from within.core.files import atomic_write
from within.core.report import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE, DOTS = (6.4, 4.4), 110
COLORS = ("#3b6ea5", "#c8553d", "#4f8a4b", "#8a5a9e", "#b8892b", "#4a9c9c", "#7a7a7a", "#b04f79")
MOST_POINTS = 4_000
Column = Float[np.ndarray, " rows"]


def rank_scatter(scores: Column, truth: Column, label: str, caption: str, path: Path) -> Picture:
    """Returns true ranks against those by a score, 1 the best; the label's value is the colour."""
    chosen = np.random.default_rng(0).permutation(len(truth))[:MOST_POINTS]

    def draw(axes: Axes) -> None:
        ranks = [np.argsort(np.argsort(-values, kind="stable")) + 1 for values in (scores, truth)]
        low = np.quantile(truth, 0.05)
        points = axes.scatter(
            ranks[0][chosen], ranks[1][chosen], c=truth[chosen], s=4, vmin=low, cmap="viridis", linewidths=0
        )
        axes.plot([1, len(truth)], [1, len(truth)], color="#999999", linewidth=0.8)
        axes.set_xlabel("rank by the score")
        axes.set_ylabel("true rank")
        axes.figure.colorbar(points, ax=axes, label=label, extend="min")

    return _picture(draw, caption, path)


def tau_by_size(
    sizes: Sequence[int], taus: Mapping[str, Sequence[Sequence[float]]], caption: str, path: Path
) -> Picture:
    """Returns Kendall's tau against how many architectures were learned from; a line each, the seeds' range shaded."""

    def draw(axes: Axes) -> None:
        for number, (name, values) in enumerate(taus.items()):
            colour = COLORS[number % len(COLORS)]
            axes.plot(sizes, [np.mean(each) for each in values], "o-", color=colour, label=name, markersize=3.5)
            axes.fill_between(
                sizes, [min(each) for each in values], [max(each) for each in values], color=colour, alpha=0.2
            )
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel("architectures learned from")
        axes.set_ylabel("Kendall's tau")
        axes.legend(frameon=False, fontsize=8)

    return _picture(draw, caption, path)


def best_so_far(
    curves: Mapping[str, Sequence[Column]], objective: str, caption: str, path: Path, optimum: float | None = None
) -> Picture:
    """Returns the best value against queries: the median over the seeds, and the middle half shaded."""

    def draw(axes: Axes) -> None:
        lowest: list[float] = []
        for number, (name, found) in enumerate(curves.items()):
            length = max(map(len, found))
            values = np.stack([np.pad(each, (0, length - len(each)), mode="edge") for each in found])
            queries, colour = np.arange(1, length + 1), COLORS[number % len(COLORS)]
            ordered = np.sort(values, axis=0)
            ordered[~np.isfinite(ordered)] = np.nan  # nothing is within the limits yet
            low, middle, high = (ordered[int(part * (len(values) - 1))] for part in (0.25, 0.5, 0.75))
            axes.step(queries, middle, where="post", color=colour, label=name)
            axes.fill_between(queries, low, high, step="post", color=colour, alpha=0.2)
            lowest += middle[np.isfinite(middle)][:10].tolist()[-1:]
        if optimum is not None:
            axes.axhline(optimum, color="#444444", linewidth=0.8, linestyle="--", label="best of the table")
        if lowest:
            highest = [float(each[-1]) for found in curves.values() for each in found]
            _between(axes, min(lowest), max([*highest, *([] if optimum is None else [optimum])]))
        axes.set_xscale("log")
        axes.set_xlabel("queries")
        axes.set_ylabel(f"best {objective}")
        axes.legend(frameon=False, fontsize=8)

    return _picture(draw, caption, path)


def pareto(
    everything: tuple[Column, Column],
    front: tuple[Column, Column],
    names: tuple[str, str],
    caption: str,
    path: Path,
    limit: float | None = None,
) -> Picture:
    """Returns two objectives of all evaluated architectures against each other, and those that no other one beats.

    Arguments:
        everything: the cost and the quality of all.
        front: those of the Pareto front.
        names: of cost and quality.
        caption: of the picture.
        path: of the files, without a suffix.
        limit: of the cost.
    """

    def draw(axes: Axes) -> None:
        axes.scatter(*everything, s=9, color="#9db7d2", linewidths=0, label="evaluated")
        order = np.argsort(front[0])
        axes.step(front[0][order], front[1][order], where="post", color=COLORS[1], linewidth=1)
        axes.scatter(*front, s=16, color=COLORS[1], linewidths=0, label="Pareto front")
        if limit is not None:
            axes.axvline(limit, color="#444444", linewidth=0.8, linestyle="--", label="limit")
        _between(axes, float(np.quantile(everything[1], 0.1)), float(everything[1].max()))
        axes.set_xlabel(names[0])
        axes.set_ylabel(names[1])
        axes.legend(frameon=False, fontsize=8, loc="lower right")

    return _picture(draw, caption, path)


def _between(axes: Axes, low: float, high: float) -> None:
    """Shows these values and a little more."""
    span = (high - low) or 1.0
    axes.set_ylim(low - 0.05 * span, high + 0.05 * span)


def _picture(draw: Callable[[Axes], None], caption: str, path: Path) -> Picture:
    """Draws, writes PATH.png and PATH.svg, and returns the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DOTS, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw(axes)
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    canvas.draw()
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".png", ".svg"):
        with atomic_write(path.with_suffix(suffix)) as temporary:
            figure.savefig(temporary, format=suffix[1:])
    return Picture(caption, np.asarray(canvas.buffer_rgba())[..., :3].copy())
