"""`within trace`: what a model is made of and what it costs, all from one trace."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from within.core.cli.factory import (
    FactoryArguments,
    FactoryName,
    InputShapes,
    build_model,
    example_inputs,
    parse_arguments,
)
from within.core.cli.output import Json, console, print_json, standard_output_for_json
from within.core.report.quantity import quantity

if TYPE_CHECKING:
    from within.core.graph import Graph

ListGroups = Annotated[bool, typer.Option("--groups", help="List every channel group and what could not be cut.")]
PLACES = 4  # of an operator without a rule, before the rest is only counted


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("trace", epilog="Example: within trace torchvision.models:resnet18 --input 1x3x224x224 --json")(trace)


def trace(
    model: FactoryName,
    inputs: InputShapes,
    arguments: FactoryArguments = None,
    groups: ListGroups = False,
    as_json: Json = False,
) -> None:
    """Show a model's operators, MACs, parameters, bytes, peak memory and channel groups.

    Nothing is computed: the model is traced on shapes alone.
    """
    with standard_output_for_json(as_json):
        from within.core.graph import trace as trace_model

        built = build_model(model, parse_arguments(arguments))
        record = examine(trace_model(built, example_inputs(inputs)), with_groups=groups or as_json)
        record = {"model": model, "inputs": inputs, **record}
    if as_json:
        print_json(record)
    else:
        _show(record)


def examine(graph: Graph, *, with_groups: bool) -> dict[str, Any]:
    """Returns the figures of a graph; with the groups and what is frozen if asked for."""
    from within.core.cost import Macs, ModelBytes, Params, PeakMemory
    from within.core.cost.macs import CONVENTIONS

    timeline = PeakMemory().timeline(graph)
    count, macs = Counter(op.kind for op in graph.operators), Macs().by_kind(graph)
    born: Counter[str] = Counter()
    for storage in timeline.storages:
        born[graph.operators[storage.born].kind] += storage.bytes
    kinds = sorted(count, key=lambda kind: (-macs.get(kind, 0), -count[kind], kind))
    channels = graph.channel_groups()
    record: dict[str, Any] = {
        "operators": len(graph.operators),
        "kinds": {kind: {"count": count[kind], "macs": macs.get(kind, 0), "bytes": born[kind]} for kind in kinds},
        "macs": {convention: Macs(convention)(graph) for convention in CONVENTIONS},
        "parameters": Params()(graph),
        "model_bytes": ModelBytes()(graph),
        "peak_memory": timeline.peak,
        "peak_operator": timeline.operators[timeline.peak_operator] if timeline.operators else "",
        "groups": len(channels),
        "channels": sum(group.size for group in channels),
        "unsupported": [{"kind": each.kind, "places": list(each.places)} for each in graph.unsupported],
    }
    if with_groups:
        record["group_sizes"] = {group.name: group.size for group in channels}
        record["frozen"] = dict(graph.frozen)
    return record


def _show(record: dict[str, Any]) -> None:
    out = console()
    total = record["macs"]["exact"]
    table = Table("operator")
    for heading in ("count", "MACs", "share", "memory written"):
        table.add_column(heading, justify="right")
    for kind, each in record["kinds"].items():
        share = f"{100 * each['macs'] / total:.1f} %" if each["macs"] else ""
        macs = f"{each['macs']:,}" if each["macs"] else ""
        table.add_row(kind, str(each["count"]), macs, share, quantity(each["bytes"], "B") if each["bytes"] else "")
    table.add_section()
    table.add_row("all", str(record["operators"]), f"{total:,}")
    out.print(table)

    facts = Table(show_header=False)
    facts.add_column()
    facts.add_column(justify="right")
    for convention, macs in record["macs"].items():
        facts.add_row(f"MACs, {convention}", f"{macs:,}")
    facts.add_row("parameters", f"{record['parameters']:,}")
    facts.add_row("model size", quantity(record["model_bytes"], "B"))
    facts.add_row(f"peak memory, at {record['peak_operator']}", quantity(record["peak_memory"], "B"))
    facts.add_row("channel groups", f"{record['groups']:,}")
    facts.add_row("channels that can be cut", f"{record['channels']:,}")
    out.print(facts)
    if "group_sizes" in record:
        groups = Table("channel group", "channels")
        for name, size in record["group_sizes"].items():
            groups.add_row(escape(name), str(size))
        for name, reason in record["frozen"].items():
            groups.add_row(escape(name), f"frozen: {escape(reason)}")
        out.print(groups)
    for each in record["unsupported"]:
        places = each["places"]
        more = f" and {len(places) - PLACES} more places" if len(places) > PLACES else ""
        where = escape(", ".join(places[:PLACES]) + more)
        out.print(f"[yellow]without a rule:[/yellow] {escape(each['kind'])} at {where}; its channels are never cut")
