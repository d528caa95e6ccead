"""The report of searches: best found, queries needed, best-so-far curves, and the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from within.core.report import BudgetRow, ImageStrip, ReportContent, ReportTable, collect_provenance
from within.nas.plots import best_so_far, pareto
from within.nas.rank_report import PLOTS
from within.nas.search.history import History, Objectives
from within.nas.search.limits import Limits, best_within, values_within
from within.nas.search.nsga2 import vectors
from within.nas.search.pareto import pareto_front
from within.nas.search_settings import SearchSettings
from within.nas.spaces import Architecture, Space
from within.nas.tables.table import Table

Found = Mapping[tuple[int, int], History]  # by method and seed
MOST_ROWS = 30


def search_report(
    settings: SearchSettings, found: Found, limits: Limits, table: Table | None, space: Space, folder: Path
) -> ReportContent:
    """Draws the plots and returns what there is to say."""
    curves = {
        method.title: [values_within(found[number, seed], settings.objective, limits) for seed in settings.seeds]
        for number, method in enumerate(settings.methods)
    }
    optimum = None if table is None else _optimum(settings, limits, table)
    name, history, best = _winner(settings, found, limits)
    pictures = [
        best_so_far(
            curves, settings.objective, f"Median of {len(settings.seeds)} seeds, and their middle half",
            folder / PLOTS / "best", optimum,
        )
    ]  # fmt: skip
    cost = next(
        iter([*settings.further, *(limit.cost for limit in settings.limits if limit.cost in settings.measured)]), None
    )
    if cost is not None:
        pictures.append(_pareto_picture(settings, history, cost, name, folder))
    tables = [_methods(settings, found, limits, curves, optimum)]
    if settings.further:
        tables.append(_front(settings, found, limits, space))
    summary = f"{settings.queries:,} queries of each method, {len(settings.seeds)} seeds. "
    if best is None:
        summary += "No evaluated architecture is within the limits."
    else:
        architecture, objectives = best
        summary += (
            f"Best: {settings.objective} {objectives[settings.objective]:.6g}, found by {name}: {list(architecture)}."
        )
    return ReportContent(
        title=f"Search in {space.name}",
        summary=summary,
        budgets=() if best is None else _budgets(limits, best),
        strips=(ImageStrip("Searches", tuple(pictures)),),
        tables=tuple(tables),
        provenance=collect_provenance(settings.seeds[0]),
    )


def _optimum(settings: SearchSettings, limits: Limits, table: Table) -> float | None:
    """Returns the best objective of the table within the limits."""
    fine = np.ones(len(table), dtype=bool)
    for limit in limits.limits:
        values = table.column(limit.name) if limit.cost is None else limit.cost(table.architectures)
        fine &= values <= limit.most
    values = table.labels(settings.objective)[fine]
    return float(values.max()) if len(values) else None


def _winner(settings: SearchSettings, found: Found, limits: Limits):  # type: ignore[no-untyped-def]
    best_of = {key: best_within(history, settings.objective, limits) for key, history in found.items()}
    known = {key: value for key, value in best_of.items() if value is not None}
    if not known:
        key = next(iter(found))
        return settings.methods[key[0]].title, found[key], None
    key = max(known, key=lambda each: known[each][1][settings.objective])
    return settings.methods[key[0]].title, found[key], known[key]


def _methods(settings: SearchSettings, found: Found, limits: Limits, curves, optimum) -> ReportTable:  # type: ignore[no-untyped-def]
    rows = []
    for number, method in enumerate(settings.methods):
        last = np.array([curve[-1] if len(curve) else -np.inf for curve in curves[method.title]])
        needed = ""
        if optimum is not None:
            near = optimum - 0.001 * abs(optimum)
            first = [np.flatnonzero(curve >= near) for curve in curves[method.title]]
            reached = [int(each[0]) + 1 if len(each) else settings.queries + 1 for each in first]
            middle = float(np.median(reached))
            needed = f"{middle:,.0f}" if middle <= settings.queries else f"> {settings.queries:,}"
        broken = sum(not limits.held(each) for seed in settings.seeds for each in found[number, seed].objectives)
        rows.append((method.title, f"{np.median(last):.6g}", f"{last.min():.6g}", needed, broken))
    columns = (
        "method", f"median best {settings.objective}", "of the worst seed", "median queries to 99.9 % of the best",
        "evaluated above a limit",
    )  # fmt: skip
    return ReportTable("Methods", columns, tuple(rows), "What was measured above a limit is never a result.")


def _front(settings: SearchSettings, found: Found, limits: Limits, space: Space) -> ReportTable:
    everything: dict[Architecture, Objectives] = {}
    for history in found.values():
        everything.update(
            (architecture, objectives)
            for architecture, objectives in zip(history.architectures, history.objectives, strict=True)
            if limits.held(objectives)
        )
    signs = {settings.objective: 1, **settings.further}
    values = list(everything.values())
    rows = [
        (str(list(architecture)), *(f"{objectives[name]:.6g}" for name in signs))
        for (architecture, objectives), on in zip(
            everything.items(), pareto_front(vectors(values, signs)) if values else (), strict=True
        )
        if on
    ]
    rows.sort(key=lambda row: -float(row[1]))
    note = f"The first {MOST_ROWS} of {len(rows)}." if len(rows) > MOST_ROWS else ""
    return ReportTable("Pareto front of all searches", ("architecture", *signs), tuple(rows[:MOST_ROWS]), note)


def _pareto_picture(settings: SearchSettings, history: History, cost: str, name: str, folder: Path):  # type: ignore[no-untyped-def]
    sign = settings.further.get(cost, -1)
    pairs = history.values(cost), history.values(settings.objective)
    on = pareto_front(np.stack([pairs[1], sign * pairs[0]], axis=1))
    limit = next((each.most for each in settings.limits if each.cost == cost), None)
    return pareto(
        pairs, (pairs[0][on], pairs[1][on]), (cost, settings.objective), f"Evaluated by {name}",
        folder / PLOTS / "pareto", limit,
    )  # fmt: skip


def _budgets(limits: Limits, best) -> tuple[BudgetRow, ...]:  # type: ignore[no-untyped-def]
    architecture, objectives = best
    return tuple(
        BudgetRow(
            each.name, "", each.most,
            float(each.cost([architecture])[0]) if each.cost is not None else objectives[each.name],
        )
        for each in limits.limits
    )  # fmt: skip
