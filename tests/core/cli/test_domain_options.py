"""What the commands of the domains share: one table or one JSON object, and options that mean the same everywhere."""

from __future__ import annotations

from importlib import metadata

import pytest
from tests.core.cli.process import only_object
from typer.main import get_command

from within.core.cli.options import show_table
from within.core.report import ReportTable


def test_a_table_is_printed_or_one_json_object_never_both(capfd):
    made = []

    def table() -> ReportTable:
        made.append(1)
        return ReportTable("Networks [1]", ("name", "parameters"), (("a" * 90, 12_345),))

    show_table({"networks": [1.5]}, True, table)
    assert only_object(capfd.readouterr().out) == {"networks": [1.5]}
    assert not made
    show_table({"networks": [1.5]}, False, table)
    printed = capfd.readouterr().out
    assert "Networks [1]" in printed
    assert "a" * 90 in printed  # not folded in a log
    assert "1.5" not in printed


@pytest.mark.parametrize("point", metadata.entry_points(group="within.commands"), ids=lambda point: point.name)
def test_an_option_of_one_name_says_the_same_in_every_domain(point):
    """Would catch a copy that drifted: another short form, metavar or meaning of --set, --run, --device or --resume."""
    commands = get_command(point.load()).commands.values()
    options = [option for command in commands for option in command.params if option.name in KNOWN]
    assert {"settings", "run", "resume"} <= {option.name for option in options}
    for option in options:
        assert (option.opts, option.metavar, option.help) == KNOWN[option.name]


KNOWN = {
    "settings": (["--set"], "NAME=VALUE", "A setting or constructor argument; may be given several times."),
    "run": (["--run"], "DIR", "The run directory."),
    "device": (["--device"], None, "For instance cpu or cuda."),
    "resume": (["--resume"], None, "Continue where an interrupted run stopped."),
    "weights": (["--weights", "-w"], "FILE", "Its weights, or a run directory."),
    "opset": (["--opset"], None, "Version of the ONNX operator set."),
}
