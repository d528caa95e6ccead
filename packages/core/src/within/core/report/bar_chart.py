"""A horizontal bar chart as a picture of a report: one bar a layer, on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from within.core.report.content import Picture

BAR_HEIGHT, WIDTH, DOTS = 0.19, 7.5, 110


def bar_chart(labels: Sequence[str], values: Sequence[float], axis: str, caption: str) -> Picture:
    """Returns a bar chart.

    Arguments:
        labels: from top to bottom.
        values: lengths, not negative; a zero has no bar.
        axis: what the lengths are.
        caption: of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 0.9 + BAR_HEIGHT * max(len(labels), 1)), dpi=DOTS, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = np.arange(len(labels))
    axes.barh(places, values, color="#3b6ea5", height=0.7)
    axes.set_yticks(places, labels, fontsize=7)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    if any(value > 0 for value in values):
        axes.set_xscale("log")
    axes.set_xlabel(axis, fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    canvas.draw()
    return Picture(caption, np.asarray(canvas.buffer_rgba())[..., :3].copy())
