"""What a search job is told: the space, what evaluates, objectives and limits, and which methods look for the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from within.core.cli.configuration import read_dataclass
from within.core.errors import WithinError
from within.nas.learner import LearnerSettings
from within.nas.search.inner import INNER

METHODS = ("random", "evolution", "annealing", "nsga2", "predictor")
GIVEN = ("params", "macs")  # costs that need no evaluation


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """A hard limit of a cost.

    Attributes:
        cost: "params" or "macs" of the network, or a column or objective, which is measured with the evaluation.
        most: the limit, in its unit.
        known: a column of the table that is looked up before the evaluation, as one of a latency table is.
    """

    cost: str
    most: float
    known: bool = False


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """One way of searching.

    Attributes:
        kind: one of `METHODS`.
        name: in tables and plots.
        population, drawn: of evolution and NSGA-II.
        temperature, decay: of annealing.
        learner: of the predictor, see `LearnerSettings`.
        start, each: architectures evaluated at first, and in each round.
        inner: how the highest score is looked for.
        looked_at: random architectures for each one that is picked.
        prior: cheap labels whose mean rank chooses the first ones, instead of chance, and has a say in later ones.
        prior_weight: of the prior beside the predictor.
    """

    kind: str
    name: str = ""
    population: int = 50
    drawn: int = 10
    temperature: float = 1.0
    decay: float = 0.98
    learner: LearnerSettings | None = None
    start: int = 20
    each: int = 10
    inner: str = "random"
    looked_at: int = 500
    prior: Sequence[str] = ()
    prior_weight: float = 1.0

    def __post_init__(self) -> None:
        for what, value, known in (("method", self.kind, METHODS), ("inner search", self.inner, tuple(INNER))):
            if value not in known:
                raise WithinError(f"There is no {what} {value!r}", where="methods", todo=f"choose {', '.join(known)}")
        if (self.learner is not None) != (self.kind == "predictor"):
            raise WithinError(
                "A learner goes with the method predictor, and only with it", where=f"methods: {self.title}"
            )
        for what in ("population", "drawn", "start", "each", "looked_at"):
            if getattr(self, what) < 1:
                raise WithinError(
                    f"{what} is {getattr(self, what)}", where=f"methods: {self.title}", todo="give 1 or more"
                )

    @property
    def title(self) -> str:
        """What tables and plots call it."""
        return self.name or (self.kind if self.learner is None else f"{self.learner.title}, {self.inner}")


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """See the module.

    Attributes:
        name: of the run.
        table, path: kind of table and its file, whose rows are searched; or
        space, evaluate: a space by name, and module:function that gives the objectives of an architecture.
        evaluate_arguments: further arguments of that function, by name.
        objective: to be high.
        further: objectives beside it: 1 to be high, -1 to be low.
        limits: see `LimitSettings`.
        methods: see `MethodSettings`; all are run and compared.
        queries: evaluations of a method and seed.
        seeds: of the methods.
        workers: processes: of evaluations with `evaluate`, of searches in a table.
        ray: see `within.core.parallel.map`.
    """

    name: str = "search"
    table: str | None = None
    path: str | None = None
    space: str | None = None
    evaluate: str | None = None
    evaluate_arguments: dict[str, Any] = field(default_factory=dict)
    objective: str
    further: dict[str, int] = field(default_factory=dict)
    limits: Sequence[LimitSettings] = ()
    methods: Sequence[MethodSettings]
    queries: int = 200
    seeds: Sequence[int] = (0,)
    workers: int | None = None
    ray: str | None = None

    def __post_init__(self) -> None:
        if (self.table is None) == (self.space is None) or (self.table is None) != (self.path is None):
            raise WithinError(
                "Nothing says what is searched", where="table", todo="give table and path, or space and evaluate"
            )
        if (self.space is None) != (self.evaluate is None):
            raise WithinError("A space needs a function that evaluates", where="evaluate", todo="give module:function")
        if self.queries < 1 or not self.seeds or not self.methods:
            raise WithinError("There is nothing to do", todo="give queries >= 1, seeds and methods")
        titles = [each.title for each in self.methods]
        twice = next((title for title in titles if titles.count(title) > 1), None)
        if twice is not None:
            raise WithinError(f"Two methods are called {twice!r}", where="methods", todo="give them names")
        if any(sign not in (-1, 1) for sign in self.further.values()):
            raise WithinError("An objective's sign is neither 1 nor -1", where="further")
        if self.table is None and any(
            each.prior or (each.learner is not None and each.learner.cheap_labels) for each in self.methods
        ):
            raise WithinError("Cheap labels are columns of a table", where="methods", todo="give table and path")

    @property
    def measured(self) -> tuple[str, ...]:
        """What an evaluation must give: objectives, and costs that are not known in advance."""
        costs = [limit.cost for limit in self.limits if limit.cost not in GIVEN]
        return tuple(dict.fromkeys([self.objective, *self.further, *costs]))


def search_settings(config: Mapping[str, Any], where: str) -> SearchSettings:
    """Returns the settings of a configuration.

    Raises:
        WithinError: naming a key that is unknown or missing, or a contradiction.
    """
    given = dict(config)
    for name, kind in (("limits", LimitSettings), ("methods", MethodSettings)):
        given[name] = [
            read_dataclass(kind, each, f"{where}: {name}[{number}]") for number, each in enumerate(given.get(name, ()))
        ]
    return read_dataclass(SearchSettings, given, where)
