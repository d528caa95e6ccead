"""`within lint-dla`: what of an ONNX file the DLA of a Jetson runs, and what falls back to the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from within.core.cli.output import Json, console, print_json, standard_output_for_json

if TYPE_CHECKING:
    from within.core.device.dla import DlaReport, Finding

File = Annotated[Path, typer.Argument(metavar="FILE", help="An ONNX file, its sizes fixed.", show_default=False)]
Precision = Annotated[str, typer.Option("--precision", help="int8 or fp16.")]
Release = Annotated[str, typer.Option("--tensorrt", metavar="VERSION", help="Release of TensorRT that will build.")]
Fallback = Annotated[bool, typer.Option("--fallback/--no-fallback", help="Whether layers may run on the GPU.")]

_NAMED = 3
_REFUSED = 1


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("lint-dla", epilog="Example: within lint-dla model.onnx --precision int8 --tensorrt 10.3")(lint_dla)


def lint_dla(
    file: File,
    precision: Precision = "int8",
    tensorrt: Release = "10.3",
    fallback: Fallback = True,
    as_json: Json = False,
) -> None:
    """Check an ONNX file against the rules of TensorRT's DLA, without the device.

    Lists what breaks a rule and what to do about it, which layers stay on DLA, and how many channels are padded.
    With --no-fallback, exits with 1 when a layer cannot run on DLA.
    """
    with standard_output_for_json(as_json):
        from within.core.device.dla import lint_dla as lint

        report = lint(file, precision=precision, tensorrt=tensorrt, fallback=fallback)
    if as_json:
        print_json(
            {
                **asdict(report),
                "channels": [{**asdict(hint), "wasted": hint.wasted} for hint in report.channels],
                "transitions": report.transitions,
                "loadables": report.loadables,
                "fallen_back": report.fallen_back,
                "wasted": report.wasted,
                "builds": report.builds,
            }
        )
    else:
        _print(console(), report)
    if not report.builds:
        raise typer.Exit(_REFUSED)


def _print(out: Console, report: DlaReport) -> None:
    layers = sum(len(segment.nodes) for segment in report.segments)
    loadables, changes = _counted(report.loadables, "loadable"), _counted(report.transitions, "change")
    out.print(
        f"TensorRT {report.tensorrt}, {report.precision}: {layers - len(report.fallen_back)} of {layers} layers run on "
        f"DLA in {loadables}, with {changes} between DLA and GPU"
    )
    if report.findings:
        out.print(_findings_table(report.findings))
    if report.transitions:
        for segment in report.segments:
            ends = dict.fromkeys((segment.nodes[0], segment.nodes[-1]))
            out.print(f"  {segment.device}: {_counted(len(segment.nodes), 'layer')}, {' to '.join(ends)}", markup=False)
    padded = [hint for hint in report.channels if hint.wasted]
    if padded:
        worst = max(padded, key=lambda hint: hint.wasted)
        out.print(
            f"{len(padded)} of {len(report.channels)} convolutions are padded, {report.wasted:.1%} of the channels are "
            f"empty; most in {worst.node}, {worst.channels} channels as {worst.padded}",
            markup=False,
        )
    if not report.builds:
        out.print("The builder would refuse it without fallback to the GPU")


def _findings_table(findings: Sequence[Finding]) -> Table:
    """Returns one row for all layers that break the same rule in the same way."""
    grouped: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        grouped.setdefault((finding.rule, finding.operator, finding.what), []).append(finding)
    table = Table("rule", "layers", "what", "what to do", box=None, pad_edge=False)
    for (rule, _, what), group in grouped.items():
        names = ", ".join(finding.node for finding in group[:_NAMED])
        more = f" and {len(group) - _NAMED} more" if len(group) > _NAMED else ""
        recalled = " (from memory)" if group[0].status == "recalled" else ""
        table.add_row(rule + recalled, escape(names + more), escape(what), escape(group[0].todo))
    return table


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
