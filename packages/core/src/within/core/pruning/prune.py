"""`prune`: trace, score, solve under budgets, cut, and prove it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from within.core.cost import Achieved, Budget
from within.core.errors import WithinError
from within.core.graph import Graph, trace
from within.core.graph.graph import Kept
from within.core.graph.producers import producing_axes
from within.core.plan import Plan, Step, input_specs
from within.core.pruning.importance import Scores, score
from within.core.pruning.masked import masked_slim_error
from within.core.pruning.slim import slim
from within.core.pruning.widths import WidthRules, solve_widths


@dataclass(frozen=True)
class Certificate:
    """The proof of a result.

    Attributes:
        achieved: each budget with its limit, the dense cost, and the cost recounted on the slim model itself.
        predicted: the cost of each budget as the decision predicted it.
        gap: optimality gap of the last integer programme.
        masked_slim_error: max relative difference between the slim model and the masked dense model.
    """

    achieved: tuple[Achieved, ...]
    predicted: tuple[float, ...]
    gap: float
    masked_slim_error: float


@dataclass(frozen=True, eq=False)
class PruneResult:
    """What `prune` returns: the slim model, the plan that makes it, the proof, and the dense graph it was read off."""

    model: nn.Module
    plan: Plan
    certificate: Certificate
    graph: Graph = field(repr=False)
    widths: Mapping[str, int] = field(default_factory=dict)

    def metrics(self) -> dict[str, Any]:
        """Returns the certificate and the widths as JSON values."""
        return {"certificate": asdict(self.certificate), "widths": dict(self.widths)}


def prune(
    model: nn.Module,
    inputs: Sequence[Any],
    *,
    budgets: Sequence[Budget] = (),
    widths: float | Mapping[str, int | float] | None = None,
    importance: str | Scores | Callable[..., Scores] = "l1",
    data: Iterable[Any] | None = None,
    loss: Callable[[Any, Any], torch.Tensor] | None = None,
    protect: Sequence[str] = (),
    step: int = 8,
    strict: bool = False,
    minimum: float = 0.125,
    heads: str = "dimension",
    grouped: str = "within",
    prefer: str = "module",
    plan: Plan | None = None,
) -> PruneResult:
    """Prunes a model to budgets, or to given widths.

    Arguments:
        model: the dense model; it is not modified.
        inputs: example inputs at the size for which the costs must hold.
        budgets: hard limits; all of them hold for the result.
        widths: instead of budgets: one fraction for every group, or a fraction or number of atoms by group name.
        importance: "l1", "taylor" (with `data` and `loss`), another name of `IMPORTANCES`, scores, or a function.
        data, loss: calibration batches `(inputs, target)` and `loss(output, target)`.
        protect: modules whose output channels are not cut, by qualified name.
        step, strict: widths are multiples of it; groups smaller than two steps may have any width, unless `strict`, for
            hardware that computes channels in blocks: then one smaller than a step is not cut.
        minimum: least fraction of each group that stays.
        heads, grouped: see `trace`.
        prefer: "module" returns the plain module where possible, "graph" always a graph module.
        plan: the plan that made `model`, if it was already compressed; the result's plan continues it.

    Returns:
        the slim model with its plan and certificate.

    Raises:
        InfeasibleBudget: when the budgets cannot be met, naming the tightest and what holds it.
        WithinError: for contradictory arguments, unknown names, NaN in weights or data, untraceable models.
    """
    if bool(budgets) == (widths is not None):
        raise WithinError("Give either budgets or widths", where="prune", todo="one of the two, not both or neither")
    _check_weights(model)
    graph = trace(model, inputs, heads=heads, grouped=grouped)
    groups = graph.channel_groups()
    if not groups:
        raise WithinError(
            "The model has no channels that may be cut",
            where=type(model).__name__,
            todo="see graph.frozen and graph.unsupported for the reasons",
        )
    scores = score(graph, importance, data=data, loss=loss)
    rules = WidthRules(step, minimum, protected_groups(graph, protect), strict)
    gap = 0.0
    limits = [budget.resolve(graph) for budget in budgets]
    tightened = list(budgets)
    for _ in range(4):
        if widths is None:
            solution = solve_widths(graph, tightened, scores, rules)
            vector, gap = solution.widths, solution.gap
        else:
            vector = given_widths(graph, widths, rules)
        kept = keep_most_important(graph, scores, vector)
        slim_model = slim(graph, kept, prefer=prefer)
        slim_graph = trace(slim_model, inputs) if budgets else None
        recounted = [float(budget.cost(slim_graph)) for budget in budgets] if slim_graph is not None else []
        broken = [cost > limit for cost, limit in zip(recounted, limits, strict=True)]
        if not any(broken):
            break
        # Rewriting added an operator that the prediction does not know: aim lower by what it added.
        tightened = [
            Budget(old.cost, limit=old.resolve(graph) * limit / cost * 0.999) if wrong else old
            for old, limit, cost, wrong in zip(tightened, limits, recounted, broken, strict=True)
        ]
    else:
        raise WithinError(
            "The slim model does not keep the budget that was predicted", todo="lower the budget slightly"
        )
    certificate = Certificate(
        tuple(
            Achieved(budget.cost.name, budget.cost.unit, limit, float(budget.cost(graph)), cost)
            for budget, limit, cost in zip(budgets, limits, recounted, strict=True)
        ),
        tuple(float(budget.cost(graph, vector)) for budget in budgets),
        gap,
        masked_slim_error(graph, kept, slim_model),
    )
    if not certificate.masked_slim_error < 1e-3:
        raise WithinError(
            f"The slim model differs from the masked model by {certificate.masked_slim_error:.2g} (relative)",
            where=type(model).__name__,
            todo="report this model: an operator rule is wrong",
        )
    sizes = {group.name: int(width) for group, width in zip(groups, vector, strict=True)}
    prune_step = cut_step(graph, kept, prefer)
    base = plan or Plan(type(model).__name__, input_specs(inputs))
    provenance = dict(base.provenance) | {
        "torch": torch.__version__,
        "importance": importance if isinstance(importance, str) else "given",
        "budgets": [{"cost": item.name, "limit": item.limit, "unit": item.unit} for item in certificate.achieved],
        "step": step,
        "strict": strict,
        "minimum": minimum,
        "protect": list(protect),
    }
    full = Plan(base.model, base.inputs, (*base.steps, prune_step), provenance)
    return PruneResult(slim_model, full, certificate, graph, sizes)


def cut_step(graph: Graph, kept: Kept, prefer: str = "module") -> Step:
    """Returns the plan's step that keeps the given atoms."""
    return Step(
        "within.core.pruning.prune:cut",
        {
            "kept": {name: list(atoms) for name, atoms in kept.items()},
            "sizes": {group.name: group.size for group in graph.channel_groups() if group.name in kept},
            "heads": graph.heads,
            "grouped": graph.grouped,
            "prefer": prefer,
        },
    )


def cut(
    model: nn.Module,
    inputs: Sequence[Any],
    *,
    kept: Mapping[str, Sequence[int]],
    sizes: Mapping[str, int],
    heads: str = "dimension",
    grouped: str = "within",
    prefer: str = "module",
) -> nn.Module:
    """Replays a pruning step on a freshly built model.

    Raises:
        WithinError: when the model's groups are not those of the plan.
    """
    graph = trace(model, inputs, heads=heads, grouped=grouped)
    own = {group.name: group.size for group in graph.channel_groups()}
    wrong = [
        f"{name}: {own.get(name, 'absent')} instead of {size}" for name, size in sizes.items() if own.get(name) != size
    ]
    if wrong:
        raise WithinError(
            f"The plan was made for another model: {len(wrong)} channel groups differ ({'; '.join(wrong[:3])})",
            where=type(model).__name__,
            todo="build the same dense model that was compressed",
        )
    return slim(graph, {name: list(atoms) for name, atoms in kept.items()}, prefer=prefer)


def keep_most_important(graph: Graph, scores: Scores, vector: np.ndarray) -> Kept:
    """Returns the most important atoms of each group that shrinks, in their original order."""
    kept = {}
    for group, width in zip(graph.channel_groups(), vector, strict=True):
        if width < group.size:
            order = np.argsort(-np.asarray(scores[group.name]), kind="stable")
            kept[group.name] = sorted(order[:width].tolist())
    return kept


def given_widths(graph: Graph, widths: float | Mapping[str, int | float], rules: WidthRules) -> np.ndarray:
    """Returns the width vector of a uniform fraction, or of fractions and numbers by group name."""
    vector = graph.width_vector()
    names = [group.name for group in graph.channel_groups()]
    if isinstance(widths, Mapping):
        for name in widths:
            graph.group(name)
        wanted = {name: widths[name] for name in names if name in widths}
    else:
        wanted = dict.fromkeys(names, float(widths))
    for position, group in enumerate(graph.channel_groups()):
        value = wanted.get(group.name)
        if value is None or group.name in rules.protected:
            continue
        if isinstance(value, float):
            if not 0 < value <= 1:
                raise WithinError(
                    f"A width fraction of {value} is out of range", where=group.name, todo="use 0 < w <= 1"
                )
            value = max(1, round(group.size * value))
        if not 1 <= value <= group.size:
            raise WithinError(f"Width {value} is out of range", where=group.name, todo=f"choose 1 to {group.size}")
        vector[position] = value
    return vector


def protected_groups(graph: Graph, protect: Sequence[str]) -> frozenset[str]:
    """Returns the groups that a protected module produces; protecting one member protects the group.

    Raises:
        WithinError: for a name that is no module of the model.
    """
    modules = dict(graph.model.named_modules())
    produced = producing_axes(graph)
    names = set()
    for name in protect:
        if name not in modules:
            raise WithinError(f"There is no module named {name!r} to protect", where=type(graph.model).__name__)
        for group in graph.channel_groups():
            for member in group.parameters:
                inside = member.tensor.startswith(f"{name}.") or not name
                if inside and ((member.tensor, member.axis) in produced or member.axis == 0):
                    names.add(group.name)
    return frozenset(names)


def _check_weights(model: nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WithinError("The weights hold NaN or Inf", where=name, todo="load a sound checkpoint")
