"""`within`: its commands, the commands of installed domain packages, and what an error looks like.

A domain package adds commands through the entry-point group `within.commands`, whose name is the command and whose
value is a typer app. It is imported only when it is called, so a slow or broken one cannot harm the rest.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from within.core.cli import (
    bench,
    bench_runtime,
    calibrate,
    compress,
    demo,
    doctor,
    export,
    lint_dla,
    methods,
    pack,
    quantize,
    report,
    reproduce,
    trace,
    unpack,
)
from within.core.errors import WithinError

COMMAND_GROUP = "within.commands"
COMMANDS = (
    trace,
    compress,
    quantize,
    pack,
    unpack,
    export,
    lint_dla,
    bench_runtime,
    report,
    bench,
    reproduce,
    demo,
    methods,
    calibrate,
    doctor,
)
USER_ERROR, DEFECT, INTERRUPTED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `within` with the given arguments, or those of the process.

    Returns:
        The exit code: 0, 2 for an error that the user can act on, 130 when interrupted, 1 for anything else.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        typer.main.get_command(app).main(args=arguments, prog_name="within")
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        if code == INTERRUPTED:
            _say("Interrupted; finished files are whole, unfinished ones were not kept.")
        return code
    except KeyboardInterrupt:
        _say("Interrupted; finished files are whole, unfinished ones were not kept.")
        return INTERRUPTED
    except WithinError as error:
        _explain(error, error.paragraph(), "--debug" in arguments)
        return USER_ERROR
    except Exception as error:
        what = f"{type(error).__name__}: {error}. This is a defect in Within; --debug shows where it happened."
        _explain(error, what, "--debug" in arguments)
        return DEFECT
    return 0


class Commands(TyperGroup):
    """The built-in commands, then one for each installed domain package."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *(point.name for point in domain_entry_points())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is None:
            points = [point for point in domain_entry_points() if point.name == cmd_name]
            return DomainCommand(points[0]) if points else None
        return with_debug_option(command)


class DomainCommand(TyperCommand):
    """Stands in the list for a domain package's app, and becomes it when it is called."""

    def __init__(self, point: metadata.EntryPoint) -> None:
        summary = point.dist.metadata["Summary"] if point.dist is not None else None
        super().__init__(name=point.name, help=summary or point.value, rich_help_panel="Domains")
        self.point = point

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return load_domain(self.point).make_context(info_name, args, parent=parent, **extra)


def domain_entry_points() -> list[metadata.EntryPoint]:
    """Returns the entry points of the domain packages' commands, by name."""
    return sorted(metadata.entry_points(group=COMMAND_GROUP), key=lambda point: point.name)


def load_domain(point: metadata.EntryPoint) -> Any:
    """Imports a domain package's commands.

    Raises:
        WithinError: when that fails, for whatever reason.
    """
    try:
        loaded = point.load()
    except Exception as error:  # a package of others: anything can go wrong in it
        raise WithinError(
            f"The commands of `within {point.name}` could not be loaded ({type(error).__name__}: {error})",
            where=point.value,
            todo=f"install or update the package that provides it; `within {point.name} --debug` shows the traceback",
        ) from error
    if not isinstance(loaded, typer.Typer):
        raise WithinError(f"`within {point.name}` is not a typer app but a {type(loaded).__name__}", where=point.value)
    # A callback keeps an app of one command a group, so that its command's name is part of the command line.
    if loaded.registered_callback is None:
        loaded.callback()(lambda: None)
    return with_debug_option(typer.main.get_command(loaded))


def with_debug_option(command: Any) -> Any:
    """Returns the command with `--debug` on it and on all commands under it, listed in their help."""
    if not any("--debug" in parameter.opts for parameter in command.params):
        command.params.append(_debug_option())
    for child in getattr(command, "commands", {}).values():
        with_debug_option(child)
    return command


def _debug_option() -> Any:
    """Returns the option as typer builds it. `main` looks for it by itself: it must work for errors in parsing, too."""

    def command(debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error.")) -> None:
        """Exists for its parameter."""

    only = typer.Typer(add_completion=False)
    only.command()(command)
    option = typer.main.get_command(only).params[0]
    option.expose_value = False
    return option


def _explain(error: Exception, paragraph: str, debug: bool) -> None:
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    _say(" ".join(paragraph.split()))


def _say(sentence: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]within:[/bold red] {escape(sentence)}")


app = typer.Typer(
    name="within",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Fit a neural network within a hardware budget, and prove it.",
    epilog="Example: within trace torchvision.models:resnet18 --input 1x3x224x224",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root() -> None:
    """Fit a neural network within a hardware budget, and prove it."""


for module in COMMANDS:
    module.register(app)
