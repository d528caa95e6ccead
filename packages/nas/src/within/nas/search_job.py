"""Searches for the best architecture within limits: `within nas search`.

Every method and seed has a file of evaluations that is only added to, so that an interrupted job goes on. Evaluations
by a function run side by side; searches in a table do.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from within.core import parallel
from within.core.cli.configuration import load_config, read_config
from within.core.cli.factory import find_factory
from within.core.cli.run_directory import CONFIG, open_run_directory, run_folder
from within.core.errors import WithinError
from within.core.report import ReportContent, write_report
from within.nas.evaluations import Evaluations
from within.nas.learner import digest, learner
from within.nas.search import annealing, nsga2, predictor_based, random_search, regularised_evolution
from within.nas.search.evaluation import from_table, in_parallel
from within.nas.search.history import Evaluate, History
from within.nas.search.limits import Limit, Limits
from within.nas.search.prior import mean_rank
from within.nas.search_report import search_report
from within.nas.search_settings import GIVEN, MethodSettings, SearchSettings, search_settings
from within.nas.spaces import Architecture, Space
from within.nas.spaces.named import costs, space
from within.nas.tables.measured_space import measured_space
from within.nas.tables.named import read_table
from within.nas.tables.table import Table

EVALUATIONS = "evaluations"


@dataclass(frozen=True, repr=False)
class SearchJob:
    """One search: a method and a seed."""

    settings: SearchSettings
    method: int
    seed: int
    folder: str

    @property
    def file(self) -> Path:
        """Of evaluations."""
        return Path(self.folder) / EVALUATIONS / f"{self.method}-{self.seed}.sqlite"

    @property
    def what(self) -> str:
        """What the file of evaluations is told: all settings that decide what is evaluated."""
        method = self.settings.methods[self.method]
        kept = replace(self.settings, methods=[method], seeds=[self.seed], workers=None, ray=None, name="", queries=1)
        return f"{method.title}, seed {self.seed}, settings {digest(kept)}"

    def __repr__(self) -> str:
        return self.what


def main(
    config: str | Path | Mapping[str, Any],
    *,
    run_directory: str | Path | None = None,
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[Path, ReportContent]:
    """Runs a configuration; with `resume`, what the run directory holds is not evaluated again.

    Returns:
        The run directory and its report.

    Raises:
        WithinError: for unknown or missing settings, a limit that no architecture meets, and failed evaluations.
    """
    read, where = read_config(config, overrides)
    settings = search_settings(read.to_dict(), where)
    problem(settings)
    with open_run_directory(run_folder(settings.name, run_directory), read, resume=resume) as folder:
        jobs = _jobs(settings, folder)
        (folder / EVALUATIONS).mkdir(exist_ok=True)
        side_by_side = settings.table is not None
        parallel.map(
            run_search, jobs, workers=settings.workers if side_by_side else 1,
            ray=settings.ray if side_by_side else None, description="Searching",
        )  # fmt: skip
        return folder, report(folder)


def report(folder: str | Path) -> ReportContent:
    """Writes the report of a search anew, from what was evaluated.

    Raises:
        WithinError: when the folder holds no search, or a method's evaluations are missing.
    """
    path = Path(folder)
    settings = search_settings(load_config(path / CONFIG).to_dict(), str(path / CONFIG))
    found: dict[tuple[int, int], History] = {}
    for job in _jobs(settings, path):
        if not job.file.is_file():
            raise WithinError("A search is missing", where=str(job.file), todo="run `within nas search` with --resume")
        with Evaluations(job.file, job.what) as store:
            known = list(store)
        history = History(lambda _: [], len(known))
        for architecture, objectives in known:
            history.add(architecture, objectives)
        found[job.method, job.seed] = history
    the_space, limits, table = problem(settings)
    content = search_report(settings, found, limits, table, the_space, path)
    write_report(path, content)
    return content


def problem(settings: SearchSettings) -> tuple[Space, Limits, Table | None]:
    """Returns the space, its limits, and the table if there is one.

    Raises:
        WithinError: for missing columns, and at once for a limit that no architecture meets.
    """
    table = None
    if settings.table is not None:
        table = _table(settings.table, settings.path or "")
        for name in settings.measured:
            table.labels(name)
        searched: Space = measured_space(table)
        name = settings.table
    else:
        searched, name = space(settings.space or ""), settings.space or ""
    limits = []
    for each in settings.limits:
        if each.cost in GIVEN:
            limits.append(Limit(each.cost, each.most, _closed_form(name, each.cost)))
            continue
        if table is not None:
            least = float(table.column(each.cost).min())
            if least > each.most:
                raise WithinError(
                    f"No architecture of the table meets {each.cost} <= {each.most:.10g}: the least is {least:.10g}",
                    where=f"the limit of {each.cost}",
                    todo=f"raise it to {least:.10g} or more",
                )
        elif each.known:
            raise WithinError(f"{each.cost} is known only in a table", where="limits", todo="leave known=True out")
        looked = _column(table, each.cost) if each.known and table is not None else None
        limits.append(Limit(each.cost, each.most, looked))
    return searched, Limits(searched, limits), table


def run_search(job: SearchJob) -> dict[str, int]:
    """Carries out one search, with its file of evaluations."""
    torch.set_num_threads(1)
    settings, method = job.settings, job.settings.methods[job.method]
    searched, limits, table = problem(settings)
    with Evaluations(job.file, job.what) as store:
        history = History(_evaluate(settings, table, store), settings.queries, store)
        options: dict[str, Any] = {"limits": limits, "seed": job.seed}
        if method.kind == "random":
            random_search.search(searched, history, **options)
        elif method.kind == "nsga2":
            signs = {settings.objective: 1, **settings.further}
            nsga2.search(searched, history, signs=signs, population=method.population, **options)
        elif method.kind == "evolution":
            regularised_evolution.search(
                searched, history, objective=settings.objective, population=method.population, drawn=method.drawn,
                **options,
            )  # fmt: skip
        elif method.kind == "annealing":
            annealing.search(
                searched, history, objective=settings.objective, temperature=method.temperature, decay=method.decay,
                **options,
            )  # fmt: skip
        else:
            _by_predictor(settings, method, searched, history, table, options, Path(job.folder))
        return {"evaluated": len(history)}


def _by_predictor(
    settings: SearchSettings,
    method: MethodSettings,
    searched: Space,
    history: History,
    table: Table | None,
    options: dict[str, Any],
    folder: Path,
) -> None:
    assert method.learner is not None
    known = table if table is not None else Table(searched, (), {})
    learn = learner(method.learner, known, settings.table or settings.space or "", seed=options["seed"], keep=folder)
    predictor_based.search(
        searched,
        history,
        learn,
        objective=settings.objective,
        further=settings.further,
        start=method.start,
        each=method.each,
        inner=method.inner,  # type: ignore[arg-type]
        looked_at=method.looked_at,
        prior=mean_rank(table, method.prior) if method.prior and table is not None else None,
        prior_weight=method.prior_weight,
        **options,
    )


def _evaluate(settings: SearchSettings, table: Table | None, store: Evaluations) -> Evaluate:
    if table is not None:
        names = list(settings.measured)
        return from_table(table, names)
    function = functools.partial(find_factory(settings.evaluate or ""), **settings.evaluate_arguments)
    return in_parallel(function, settings.measured, store=store, workers=settings.workers, ray=settings.ray)


def _closed_form(name: str, cost: str) -> Any:
    function = costs(name)[cost]

    def of_all(architectures: Sequence[Architecture]) -> Float[np.ndarray, " architectures"]:
        return np.array([float(function(each)) for each in architectures])

    return of_all


def _column(table: Table, name: str) -> Any:
    """Returns a function that looks a column up."""
    values = table.labels(name)
    rows = {architecture: row for row, architecture in enumerate(table.architectures)}
    return lambda architectures: values[[rows[each] for each in architectures]]


@functools.lru_cache(maxsize=2)
def _table(kind: str, path: str) -> Table:
    return read_table(kind, path)


def _jobs(settings: SearchSettings, folder: Path) -> list[SearchJob]:
    return [
        SearchJob(settings, number, seed, str(folder))
        for number in range(len(settings.methods))
        for seed in settings.seeds
    ]
