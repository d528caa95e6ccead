"""How the commands of the domains read sizes and settings, and how they print a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from within.core.cli.output import console, print_json
from within.core.errors import WithinError

if TYPE_CHECKING:
    from within.core.report import ReportTable


def height_width(text: str) -> tuple[int, int]:
    """Reads 512x768.

    Raises:
        WithinError: when it is not two positive sizes.
    """
    from within.core.cli.factory import parse_shape

    shape, kind = parse_shape(text)
    if len(shape) != 2 or kind != "float32":
        raise WithinError(f"{text!r} is not a height and a width", where="--size", todo="write for instance 512x512")
    return shape[0], shape[1]


def read_settings(texts: Sequence[str] | None) -> dict[str, Any]:
    """Reads `name=value` pairs; names may have dots, values that are no Python literals are texts.

    Raises:
        WithinError: when a text has no `=` or no valid name.
    """
    from within.core.cli.factory import parse_arguments

    return parse_arguments(texts, dotted=True)


def read_job(config: Path | None, given: Mapping[str, Any]) -> Path | dict[str, Any]:
    """Returns what says what to do: the configuration, or the options that were given, as plain values.

    Raises:
        WithinError: as `from_file` does.
    """
    if from_file(config, given) and config is not None:
        return config
    chosen = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    return {name: value for name, value in chosen.items() if value is not None}


def from_file(config: Path | None, given: Mapping[str, Any]) -> bool:
    """Returns whether a file says what to do.

    Raises:
        WithinError: when neither a file nor options do, or both: the options would be ignored.
    """
    named = [f"--{key.replace('_', '-')}" for key, value in given.items() if value is not None]
    if config is not None and named:
        raise WithinError(
            f"{config} says what to do, and so does {named[0]}", todo="give the configuration or the options, not both"
        )
    if config is None and not named:
        raise WithinError("Nothing says what to do", todo="give a configuration, or --network, --weights and --data")
    return config is not None


def show(record: Mapping[str, Any], as_json: bool, title: str) -> None:
    """Prints a record, as one JSON object or as a table of two columns."""
    if as_json:
        print_json(record)
        return
    table = Table("", "", title=escape(title), show_header=False)
    for name, value in record.items():
        table.add_row(name.replace("_", " "), escape(cell(name, value)))
    console().print(table)


def show_table(record: Mapping[str, Any], as_json: bool, table: Callable[[], ReportTable]) -> None:
    """Prints what was found, as one JSON object or as a table."""
    if as_json:
        print_json(record)
        return
    from within.core.report.terminal import print_table

    print_table(table(), console())


def cell(name: str, value: Any) -> str:
    """Returns a value as people read it; its name says what unit it has."""
    from within.core.report.quantity import quantity

    if value is None:
        return ""
    if name.endswith("bytes") or name == "peak_memory":
        return quantity(value, "B")
    if name == "macs":
        return quantity(value, "MAC")
    if isinstance(value, (tuple, list)):
        return " x ".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item:.4g}" for key, item in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
