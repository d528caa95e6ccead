"""The report of a ranking: tables of figures, tau against training size, and scatters of ranks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from within.core.report import ImageStrip, ReportContent, ReportTable, collect_provenance
from within.nas.metrics import RankingFigures
from within.nas.plots import rank_scatter, tau_by_size
from within.nas.rank_settings import RankSettings

PLOTS = "plots"
Key = tuple[int, float, int]  # learner, share, seed


def rank_report(
    settings: RankSettings,
    figures: Mapping[Key, RankingFigures],
    scores: Mapping[Key, Float[np.ndarray, " architectures"]],
    truth: Float[np.ndarray, " architectures"],
    folder: Path,
) -> ReportContent:
    """Draws the plots and returns what there is to say.

    Arguments:
        settings: of the run.
        figures, scores: of each learner, share and seed.
        truth: labels of the test architectures.
        folder: that receives `plots/`.
    """
    shares = sorted(settings.shares)
    known = settings.read()
    train, test = settings.split.of(known)
    sizes = [settings.size(share, train) for share in shares]
    taus = {
        each.title: [[figures[number, share, seed].tau for seed in settings.seeds] for share in shares]
        for number, each in enumerate(settings.learners)
    }
    whole = shares[-1]
    pictures = [
        rank_scatter(
            scores[number, whole, settings.seeds[0]],
            truth,
            settings.label,
            f"{each.title}, learned from {sizes[-1]:,}: tau {figures[number, whole, settings.seeds[0]].tau:.3f}",
            folder / PLOTS / f"ranks-{number}",
        )
        for number, each in enumerate(settings.learners)
    ]
    curve = tau_by_size(sizes, taus, f"Mean of {len(settings.seeds)} seeds, and their range", folder / PLOTS / "tau")
    best = max(taus, key=lambda name: float(np.mean(taus[name][0])))
    return ReportContent(
        title=f"Ranking {known.space.name} by {settings.label}",
        summary=f"{len(train):,} architectures to learn from, {len(test):,} to test on; {len(settings.seeds)} seeds. "
        f"With {sizes[0]:,} labels {best} ranks best, tau {np.mean(taus[best][0]):.3f}.",
        strips=(ImageStrip("Kendall's tau by training size", (curve,)), ImageStrip("Ranks", tuple(pictures))),
        tables=(_taus(settings, taus, shares, sizes), _others(settings, figures, shares, sizes)),
        provenance=collect_provenance(settings.seeds[0]),
    )


def _taus(
    settings: RankSettings, taus: Mapping[str, list[list[float]]], shares: list[float], sizes: list[int]
) -> ReportTable:
    rows: list[tuple[str, ...]] = []
    for each in settings.learners:
        cells = []
        for values in taus[each.title]:
            spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.4f}{spread}")
        rows.append((each.title, *cells))
        if each.published:
            published = [f"{value:.4f}" for value in each.published]
            rows.append((f"{each.title}, published", *published[: len(shares)], *[""] * (len(shares) - len(published))))
    columns = ("learner", *(f"{share:.3g} of them ({size:,})" for share, size in zip(shares, sizes, strict=True)))
    return ReportTable("Kendall's tau over the test architectures", columns, tuple(rows), "Mean ± deviation of seeds.")


def _others(
    settings: RankSettings, figures: Mapping[Key, RankingFigures], shares: list[float], sizes: list[int]
) -> ReportTable:
    rows: list[tuple[str | int | float | bool | None, ...]] = []
    for number, each in enumerate(settings.learners):
        for share, size in zip(shares, sizes, strict=True):
            found = [figures[number, share, seed] for seed in settings.seeds]
            rows.append(
                (
                    each.title,
                    size,
                    *(
                        f"{np.mean([getattr(one, name) for one in found]):.4f}"
                        for name in ("tau", "rho", "best_among_first", "best_of_ten")
                    ),
                )
            )
    columns = ("learner", "learned from", "tau", "rho", "best 5 % among the first 5 %", "best of the first ten")
    return ReportTable("All figures", columns, tuple(rows), f"Means over seeds; the label is {settings.label}.")
