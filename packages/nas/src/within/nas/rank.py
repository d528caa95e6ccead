"""How well learners rank the architectures of a table, by how much of it they learn from: `within nas rank`.

Every learner learns from the first rows of a split with every seed, side by side; scores of the others are kept, so
that the report can be written again without training.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from within.core import parallel
from within.core.cli.configuration import load_config, read_config
from within.core.cli.run_directory import CONFIG, open_run_directory, run_folder
from within.core.errors import WithinError
from within.core.files import atomic_write
from within.core.report import ReportContent, write_report
from within.nas.learner import LearnerSettings, digest, learner
from within.nas.metrics import ranking_figures
from within.nas.rank_report import rank_report
from within.nas.rank_settings import RankSettings, Split, rank_settings
from within.nas.tables.named import read_table
from within.nas.tables.table import Table

RESULTS, EXPERTS, SCORES = "results.jsonl", "experts", "scores"


@dataclass(frozen=True, repr=False)
class RankJob:
    """One training: a learner, a share, a seed."""

    settings: RankSettings
    learner: int
    share: float
    seed: int
    folder: str

    @property
    def key(self) -> str:
        """Names the job and all that decides what comes of it."""
        settings, chosen = self.settings, self.settings.learners[self.learner]
        known = digest(chosen, settings.table, settings.path, settings.label, settings.split)
        return f"{chosen.title}, {self.share:g}, seed {self.seed}, settings {known}"

    @property
    def scores_file(self) -> Path:
        """Where the scores are."""
        return Path(self.folder) / SCORES / f"{self.learner}-{self.share:g}-{self.seed}.npy"

    def __repr__(self) -> str:
        return self.key


def main(
    config: str | Path | Mapping[str, Any],
    *,
    run_directory: str | Path | None = None,
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[Path, ReportContent]:
    """Runs a configuration; with `resume`, what is finished in the run directory is not done again.

    Returns:
        The run directory and its report.

    Raises:
        WithinError: for unknown or missing settings, and as `rank` does.
    """
    read, where = read_config(config, overrides)
    settings = rank_settings(read.to_dict(), where)
    settings.read()
    with open_run_directory(run_folder(settings.name, run_directory), read, resume=resume) as folder:
        return folder, rank(settings, folder)


def rank(settings: RankSettings, folder: Path) -> ReportContent:
    """Trains every learner on every share with every seed, and writes the report into the folder.

    Raises:
        WithinError: when a job fails; what is finished stays in the folder.
    """
    jobs = _jobs(settings, folder)
    (folder / SCORES).mkdir(exist_ok=True)
    _learn_cheap_labels(settings, folder)
    options: dict[str, Any] = {"workers": settings.workers, "ray": settings.ray}
    parallel.map(_rank_one, jobs, results=folder / RESULTS, key=lambda job: job.key, description="Training", **options)
    return report(folder)


def report(folder: str | Path) -> ReportContent:
    """Writes the report of a finished run anew.

    Raises:
        WithinError: when the folder holds no finished ranking.
    """
    path = Path(folder)
    settings = rank_settings(load_config(path / CONFIG).to_dict(), str(path / CONFIG))
    jobs = _jobs(settings, path)
    missing = [job.key for job in jobs if not job.scores_file.is_file()]
    if missing:
        raise WithinError(
            f"{len(missing)} of {len(jobs)} trainings are missing, such as {missing[0]}",
            where=str(path),
            todo="run `within nas rank` with --resume",
        )
    _, test = settings.split.of(settings.read())
    truth = test.labels(settings.label)
    found = {(job.learner, job.share, job.seed): np.load(job.scores_file) for job in jobs}
    figures = {key: ranking_figures(scores, truth) for key, scores in found.items()}
    content = rank_report(settings, figures, found, truth, path)
    write_report(path, content)
    return content


def _jobs(settings: RankSettings, folder: Path) -> list[RankJob]:
    return [
        RankJob(settings, number, share, seed, str(folder))
        for share in sorted(settings.shares, reverse=True)
        for number in range(len(settings.learners))
        for seed in settings.seeds
    ]


def _learn_cheap_labels(settings: RankSettings, folder: Path) -> None:
    """Trains the experts of every ensemble and seed, which all shares use."""
    ensembles = [each for each in settings.learners if each.encoder is not None and each.cheap_labels]
    if not ensembles:
        return
    (folder / EXPERTS).mkdir(exist_ok=True)
    items = [(settings, each, seed, str(folder)) for each in ensembles for seed in settings.seeds]
    parallel.map(_experts, items, workers=settings.workers, ray=settings.ray, description="Training experts")


def _experts(item: tuple[RankSettings, LearnerSettings, int, str]) -> None:
    settings, each, seed, folder = item
    torch.set_num_threads(1)
    train, _ = _halves(settings.table, settings.path, settings.split)
    learner(each, train, settings.table, seed=seed, keep=Path(folder) / EXPERTS)


def _rank_one(job: RankJob) -> dict[str, Any]:
    torch.set_num_threads(1)
    settings, chosen = job.settings, job.settings.learners[job.learner]
    train, test = _halves(settings.table, settings.path, settings.split)
    learn = learner(chosen, train, settings.table, seed=job.seed, keep=Path(job.folder) / EXPERTS)
    known = train.rows(range(settings.size(job.share, train)))
    score = learn(known.architectures, known.labels(settings.label), 0)
    found = score(test.architectures)
    with atomic_write(job.scores_file) as temporary, open(temporary, "wb") as file:
        np.save(file, found)
    return {**asdict(ranking_figures(found, test.labels(settings.label))), "learned_from": len(known)}


@functools.lru_cache(maxsize=2)
def _halves(table: str, path: str, split: Split) -> tuple[Table, Table]:
    return split.of(read_table(table, path))
