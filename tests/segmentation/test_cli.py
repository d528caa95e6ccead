"""`within segmentation`: an example for every command, one JSON object, one paragraph for a mistake."""

from __future__ import annotations

import json

import pytest
from tests.segmentation.segmentation_data import small_data
from typer.testing import CliRunner

from within.core.cli import main
from within.segmentation.cli import app

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]
SMALL = ["--set", "depth=(1,1,1,1)", "--set", "width=8", "--set", "features=16"]


def run(*arguments: object) -> int:
    return main(["segmentation", *map(str, arguments)])


def only_object(capsys) -> dict:
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1, shown
    found = json.loads(shown, parse_constant=pytest.fail)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command):
    shown = CliRunner().invoke(app, [command, "--help"]).output
    assert f"within segmentation {command}" in " ".join(shown.split())


def test_networks_are_counted(capsys):
    assert run("networks", "swiftnet_rn18", "--size", "256x512", "--json") == 0
    (row,) = only_object(capsys)["networks"]
    assert row["parameters"] == 11_797_071


def test_train_evaluate_and_export(capsys, tmp_path):
    data = small_data(tmp_path / "data", train=4, val=1)
    config = tmp_path / "small.py"
    config.write_text(
        "name, network = 'small', 'swiftnet_rn18'\narguments = dict(classes=11, width=8, features=16)\n"
        f"data = {str(data)!r}\nschedule = dict(iterations=2, batch_size=2, crop=(64, 64), workers=0)\n"
    )
    assert run("train", config, "--run", tmp_path / "run", "--json") == 0
    assert only_object(capsys)["iterations"] == 2
    assert run("eval", "-n", tmp_path / "run", "--data", data, "--json") == 0
    assert set(only_object(capsys)["scores"]) == {"V0", "V1", "V2"}
    assert run("eval", "-n", tmp_path / "run", "--data", data) == 0
    assert "mean of" in capsys.readouterr().out
    assert run("export", tmp_path / "run", tmp_path / "x.onnx", "--size", "64x96", "--json") == 0
    (file,) = only_object(capsys)["files"]
    assert file["fixed"]
    assert file["argmax_agreement"] > 0.999


def test_compress_prints_its_report(capsys, tmp_path):
    data = small_data(tmp_path / "data", train=2, val=1)
    given = ["-n", "swiftnet_rn18", "--data", data, "--stages", "1,2,3,4", "--size", "64x96"]
    extra = ["--set", "int8=False", "--set", "runtimes=()", "--set", "arguments.classes=11"]
    extra += ["--set", "arguments.width=8", "--set", "arguments.features=16"]
    assert run("compress", *given, *extra, "--run", tmp_path / "run", "--json") == 0
    assert (tmp_path / "run" / "report.html").is_file()
    assert only_object(capsys)["metrics"]["quality"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eval", "-n", "swiftnet_rn18"], "'data' is missing"),
        (["eval", "-n", "swiftnet", "--data", "."], "data sets of segmentation"),
        (["compress", "-n", "swiftnet_rn18", "--data", ".", "--stages", "one"], "no list of stages"),
        (["train", "nowhere.py"], "no such configuration"),
        (["bench", "espnet_q3"], "ResNet"),
        (["networks", "swiftnet_rn17"], "did you mean"),
    ],
)
def test_a_mistake_is_one_paragraph(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert words in shown.err
    assert shown.err.count("\n") == 1
