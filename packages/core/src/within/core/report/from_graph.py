"""The parts of a report that are read off a graph: memory over time, widths, predicted costs, budgets, notices."""

from __future__ import annotations

from collections.abc import Iterable

from within.core.cost import Achieved, Cost, Decision, Macs, ModelBytes, Params, PeakMemory
from within.core.cost.cost import vector_of
from within.core.graph import Graph
from within.core.report.content import AliveTensor, BudgetRow, CostRow, GroupWidth, MemoryTimeline, Notice

COSTS: tuple[Cost, ...] = (PeakMemory(), Macs(), Params(), ModelBytes())
NAMED = 6  # names in one notice, before the rest is only counted


def memory_timeline(label: str, graph: Graph, decision: Decision = None) -> MemoryTimeline:
    """Returns live bytes operator by operator, with the tensors alive at the peak.

    Raises:
        ValueError: when the graph has no operator.
    """
    vector = vector_of(graph, decision)
    timeline = PeakMemory().timeline(graph, vector)
    alive = tuple(
        AliveTensor(storage.value, graph.shape(storage.value, vector), size, storage.born, storage.last)
        for storage, size in timeline.alive(timeline.peak_operator)
    )
    return MemoryTimeline(label, timeline.operators, tuple(int(live) for live in timeline.bytes), alive)


def group_widths(graph: Graph, decision: Decision) -> tuple[GroupWidth, ...]:
    """Returns the width of each channel group before and under a decision."""
    vector = vector_of(graph, decision)
    kept = graph.width_vector() if vector is None else vector
    return tuple(
        GroupWidth(group.name, group.size, int(width))
        for group, width in zip(graph.channel_groups(), kept, strict=True)
    )


def predicted_costs(graph: Graph, decision: Decision, costs: Iterable[Cost] = COSTS) -> tuple[CostRow, ...]:
    """Returns each cost of the dense graph and under a decision, both from the graph; nothing is measured."""
    return tuple(
        CostRow(
            cost.name,
            cost.unit,
            before_predicted=float(cost(graph)),
            after_predicted=float(cost(graph, decision)),
        )
        for cost in costs
    )


def budget_rows(achieved: Iterable[Achieved]) -> tuple[BudgetRow, ...]:
    """Returns the lines of a certificate as rows."""
    return tuple(BudgetRow(each.name, each.unit, each.limit, each.cost, each.dense) for each in achieved)


def notices(graph: Graph) -> tuple[Notice, ...]:
    """Returns what was left alone and why: operators without a rule, and frozen parameters, one notice a reason."""
    found = [
        Notice(each.kind, f"has no rule ({_names(each.places)}); the channels that reach it are never cut")
        for each in graph.unsupported
    ]
    reasons: dict[str, list[str]] = {}
    for parameter, reason in graph.frozen.items():
        reasons.setdefault(reason, []).append(parameter)
    found += [Notice(_names(names), f"not cut: {reason}") for reason, names in reasons.items()]
    return tuple(found)


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more
