"""The configuration of a compression: which keys it has, and budgets from their records."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from within.core.cli.configuration import check_keys
from within.core.errors import WithinError

if TYPE_CHECKING:
    from within.core.cost import Budget

MODEL_KEYS = ("factory", "arguments", "weights")


@dataclass(frozen=True)
class Settings:
    """The keys of a configuration.

    Attributes:
        model: `factory`, and if wanted `arguments` of it and `weights` (a run directory, a safetensors file, or a
            torch file of plain tensors).
        inputs: shapes of the example inputs, as sequences or as texts such as "1x3x224x224".
        budgets: records `dict(cost=NAME, fraction=... or limit=...)`; further keys are arguments of the cost.
        widths: instead of budgets: the fraction of channels that every group keeps, or one for each group by name.
        importance: name of the criterion that ranks channels.
        protect: modules whose channels are not cut.
        step, strict, minimum: multiples that widths come in, whether small groups keep to them too (DLA: see
            `within lint-dla`), and the least fraction of each group that stays.
        data, loss: functions by name; `data()` returns batches `(inputs, target)`, `loss(output, target)` a scalar.
        evaluate: function by name, from a model to `{metric: value}` or `{metric: (value, unit)}`.
        runtime: where latency is measured; None to measure none.
        seed: of everything random.
        output: the run directory.
    """

    model: Mapping[str, Any]
    inputs: Sequence[Any]
    budgets: Sequence[Mapping[str, Any]] = ()
    widths: float | Mapping[str, float] | None = None
    importance: str = "l1"
    protect: Sequence[str] = ()
    step: int = 8
    strict: bool = False
    minimum: float = 0.125
    data: str | None = None
    loss: str | None = None
    evaluate: str | None = None
    runtime: str | None = "onnxruntime"
    seed: int = 0
    output: str = ""

    @property
    def shapes(self) -> list[str]:
        """The input shapes as texts."""
        return shape_texts(self.inputs)


def shape_texts(shapes: Sequence[Any]) -> list[str]:
    """Returns shapes, sequences of sizes or texts, as texts such as "1x3x224x224"."""
    return [shape if isinstance(shape, str) else "x".join(map(str, shape)) for shape in shapes]


def read_settings(config: Mapping[str, Any], *, where: str) -> Settings:
    """Checks the keys of a configuration.

    Raises:
        WithinError: for an unknown or a missing key, and when budgets and widths are both given, or neither.
    """
    known = [each.name for each in dataclasses.fields(Settings)]
    check_keys(config, known, where)
    for key in ("model", "inputs"):
        if not config.get(key):
            raise WithinError(f"The key {key!r} is missing", where=where, todo="see `within compress --help`")
    if not isinstance(config["model"], Mapping) or "factory" not in config["model"]:
        raise WithinError("The model has no factory", where=where, todo='write model = dict(factory="module:name")')
    check_keys(config["model"], MODEL_KEYS, f"{where}, model")
    if bool(config.get("budgets")) == (config.get("widths") is not None):
        raise WithinError("Give either budgets or widths, one of the two", where=where)
    return Settings(**config)


def read_budgets(records: Sequence[Mapping[str, Any]], *, where: str) -> list[Budget]:
    """Builds budgets from `dict(cost=NAME, fraction=... or limit=..., ...)`.

    Raises:
        WithinError: for an unknown cost or argument of a cost, and for what `Budget` refuses.
    """
    from within.core import cost as costs

    names = [name for name in costs.__all__ if _is_cost(getattr(costs, name), name)]
    budgets = []
    for record in records:
        name = record.get("cost")
        if name not in names:
            todo = f"choose one of: {', '.join(names)}"
            raise WithinError(f"There is no cost named {name!r}", where=f"{where}, budgets", todo=todo)
        kind = getattr(costs, name)
        arguments = {key: value for key, value in record.items() if key not in ("cost", "fraction", "limit")}
        check_keys(arguments, list(inspect.signature(kind).parameters), f"{where}, budget on {name}")
        budgets.append(costs.Budget(kind(**arguments), limit=record.get("limit"), fraction=record.get("fraction")))
    return budgets


def _is_cost(kind: Any, name: str) -> bool:
    return inspect.isclass(kind) and name != "Cost" and {"name", "unit", "__call__"} <= set(dir(kind))
