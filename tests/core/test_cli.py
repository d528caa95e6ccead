"""The command line: quick to start, one paragraph for an error, one JSON object for programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from within.core.cli import main
from within.core.cli.application import COMMANDS
from within.core.cli.factory import build_model, find_factory, parse_arguments, parse_shape
from within.core.cli.methods import CORE, FOLDERS, all_methods
from within.core.errors import WithinError

NAMES = [module.__name__.rpartition(".")[2] for module in COMMANDS]

PLUGIN = """
import sys, time
import typer
from within.core.errors import WithinError
app = typer.Typer(help="Commands for tests.")

@app.command()
def fail():
    raise WithinError("The widget\\nis bent", where="widget.toml, line 3", todo="straighten it")

@app.command()
def crash():
    raise ZeroDivisionError("by zero")

@app.command()
def wait():
    print("ready", file=sys.stderr, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def plugins(tmp_path) -> Path:
    """Returns a folder for PYTHONPATH with a distribution that adds a good, a broken and a wrong command."""
    information = tmp_path / "pretend-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: pretend\nVersion: 1.0\nSummary: Pretends\n")
    (information / "entry_points.txt").write_text(
        "[within.commands]\npretend = pretend:app\nbroken = pretend_broken:app\nwrong = pretend_wrong:app\n"
        "[within.demos]\npretend = pretend_demo:demo\n"
    )
    (tmp_path / "pretend.py").write_text(PLUGIN)
    (tmp_path / "pretend_broken.py").write_text("raise RuntimeError('library of another planet')")
    (tmp_path / "pretend_wrong.py").write_text("app = 3")
    (tmp_path / "pretend_demo.py").write_text(
        "from within.core.report import ReportContent, CostRow\n"
        "def demo(folder):\n"
        "    print('noise')\n"
        "    return ReportContent('Pretended', costs=(CostRow('MACs', 'MAC', 4e9, 2e9),))\n"
    )
    return tmp_path


def within(*arguments: str, search: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `within` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "within.core.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(search or ""), "COLUMNS": "100"},
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def only_object(output: str) -> dict:
    """Returns the one JSON object that the output must be."""
    assert output.endswith("\n")
    assert output.count("\n") == 1
    value = json.loads(output, parse_constant=pytest.fail)
    assert isinstance(value, dict)
    return value


def test_help_does_not_import_torch():
    """Would catch an import that makes every `--help` wait seconds for torch."""
    code = (
        "import sys\nfrom within.core.cli import main\n"
        "assert main(['--help']) == 0\nassert main(['trace', '--help']) == 0\n"
        "slow = {'torch', 'scipy', 'onnx', 'matplotlib', 'mmengine'} & set(sys.modules)\nassert not slow, slow"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_with_an_example(name, capsys):
    """Would catch a command without an example, without `--debug`, or without a sentence on what it does."""
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Example: within {name}" in shown
    assert "--debug" in shown


def test_unknown_commands_and_options_are_usage_errors(capsys):
    """Would catch a typing mistake that ends in a traceback, and a suggestion that is lost."""
    assert main(["benhc"]) == 2
    assert "Did you mean 'bench'" in capsys.readouterr().err
    assert main(["doctor", "--nope"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_user_error_is_one_paragraph_and_exit_2(plugins):
    """Would catch a traceback, a message on several lines, or one on standard output."""
    result = within("pretend", "fail", search=plugins)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == "within: The widget is bent. Where: widget.toml, line 3. What to do: straighten it.\n"


def test_debug_shows_the_traceback(plugins):
    """Would catch `--debug` that plugins do not take, or that shows nothing."""
    result = within("pretend", "fail", "--debug", search=plugins)
    assert result.returncode == 2
    assert "Traceback" in result.stderr
    assert "in fail" in result.stderr
    assert "--debug" in within("pretend", "fail", "--help", search=plugins).stdout


def test_defect_is_told_apart_from_user_error(plugins):
    """Would catch a defect of ours that is dressed up as a mistake of the user."""
    result = within("pretend", "crash", search=plugins)
    assert result.returncode == 1
    assert "ZeroDivisionError: by zero" in result.stderr
    assert "Traceback" not in result.stderr


def test_interrupt_is_one_line_and_exit_130(plugins):
    """Would catch a traceback on Ctrl-C, or an exit code that a shell does not take for an interrupt."""
    process = subprocess.Popen(
        [sys.executable, "-m", "within.core.cli", "pretend", "wait"],
        env={**os.environ, "PYTHONPATH": str(plugins)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output == ""
    assert errors.count("\n") == 1
    assert "Interrupted" in errors


def test_broken_plugins_harm_only_themselves(plugins):
    """Would catch a plugin that cannot be imported and takes `within --help` down with it."""
    shown = within("--help", search=plugins)
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in ("pretend", "broken", "wrong", "Pretends", *NAMES))
    broken = within("broken", "anything", search=plugins)
    assert broken.returncode == 2
    assert "library of another planet" in broken.stderr
    assert within("wrong", search=plugins).returncode == 2
    record = only_object(within("doctor", "--json", search=plugins).stdout)
    assert record["commands"]["pretend"] == "loads"
    assert any("another planet" in problem for problem in record["problems"])


@pytest.mark.parametrize("arguments", [["doctor"], ["methods"], ["bench"], ["reproduce"]])
def test_json_is_one_object_and_nothing_else(arguments):
    """Would catch a table, a log line or a warning on standard output beside the object."""
    only_object(within(*arguments, "--json").stdout)


def test_json_survives_libraries_that_print(tmp_path):
    """Would catch output of Python, of the C library or of a bare file descriptor before the object."""
    (tmp_path / "noisy.py").write_text(
        "import ctypes, os\n"
        "print('python')\nctypes.CDLL(None).printf(b'library\\n')\nos.write(1, b'descriptor\\n')\n"
        "os.system('echo child')\n"
    )
    code = (
        "from within.core.cli.output import print_json, standard_output_for_json\n"
        "with standard_output_for_json(True):\n    import noisy\n"
        "print_json({'value': float('inf')})"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert only_object(result.stdout) == {"value": "inf"}
    assert all(word in result.stderr for word in ("python", "library", "descriptor", "child"))


def test_doctor_names_the_command_for_a_missing_extra(capfd):
    """Would catch an extra that is said to be missing and not how to get it, and a problem that ends in exit code 0."""
    code = main(["doctor", "--json"])
    record = only_object(capfd.readouterr().out)
    assert code == int(bool(record["problems"]))
    assert record["versions"]["torch"]
    assert record["machine"]["usable cores"] >= 1
    assert "onnxruntime" in record["runtimes"]
    assert record["extras"]["within-core[openvino]"]["install"] == 'pip install "within-core[openvino]"'


def test_bench_prints_its_json_last_and_fails_with_its_threshold(tmp_path, monkeypatch, capfd):
    """Would catch a table after the object, and a missed threshold that ends in exit code 0."""
    for name, passed in (("good", True), ("bad", False)):
        (tmp_path / f"{name}.py").write_text(
            "from within.core.bench import BenchResult\n"
            f"def run(full=False):\n    print('noise')\n"
            f"    return BenchResult({name!r}, {passed}, {{'full': full}}, ('a', 'b'), [(1, 2.5)])\n"
        )
    monkeypatch.setattr("within.core.bench.benchmark_folder", lambda: tmp_path)
    assert main(["bench", "good", "--full"]) == 0
    last = capfd.readouterr().out.splitlines()[-1]
    assert json.loads(last) == {"bench": "good", "passed": True, "figures": {"full": True}}
    assert main(["bench", "bad", "--json"]) == 1
    assert only_object(capfd.readouterr().out)["passed"] is False
    assert main(["bench", "all"]) == 1
    assert json.loads(capfd.readouterr().out.splitlines()[-1])["figures"] == {"good": True, "bad": False}
    assert main(["bench", "gone"]) == 2


def test_demo_writes_a_report_into_a_fresh_folder_each_time(plugins):
    """Would catch a second demo that fails on, or overwrites, the run directory of the first."""
    first = only_object(within("demo", "pretend", "--json", search=plugins, cwd=plugins).stdout)
    second = within("demo", "pretend", search=plugins, cwd=plugins)
    assert Path(first["report"]).is_file()
    assert "Pretended" in second.stdout
    assert (plugins / "runs" / "demo-pretend-2" / "metrics.json").is_file()
    again = within("demo", "pretend", "--output", "runs/demo-pretend", search=plugins, cwd=plugins)
    assert again.returncode == 2
    assert "not empty" in again.stderr
    assert within("demo", "unknown", search=plugins, cwd=plugins).returncode == 2


def test_report_prints_and_rewrites(plugins):
    """Would catch a run whose page is lost for good when it is deleted."""
    within("demo", "pretend", "--output", "run", search=plugins, cwd=plugins)
    (plugins / "run" / "report.html").unlink()
    shown = within("report", "run", cwd=plugins)
    assert "2.000 GMAC" in shown.stdout
    assert (plugins / "run" / "report.html").is_file()
    assert only_object(within("report", "run", "--json", cwd=plugins).stdout)["title"] == "Pretended"


def test_reproduce_runs_a_table_on_the_users_data(tmp_path, monkeypatch, capfd):
    """Would catch a table that is not found, that runs without its data, or whose rows lose their columns."""
    benches, tables = tmp_path / "benchmarks", tmp_path / "reproduce"
    benches.mkdir()
    tables.mkdir()
    (tables / "denoising.py").write_text("title = 'A table'\nrun = 'table_for_test:run'\nfactor = 2\n")
    (tables / "torn.py").write_text("title = (\n")
    (tmp_path / "table_for_test.py").write_text(
        "from within.core.report import ReportTable\n"
        "def run(config, data):\n"
        "    count = len(list(data.iterdir()))\n"
        "    return ReportTable(config.title, ('set', 'PSNR'), (('a', config.factor * count),))\n"
    )
    monkeypatch.setattr("within.core.cli.reproduce.benchmark_folder", lambda: benches)
    monkeypatch.delenv("WITHIN_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "denoising", "--data", str(tables), "--json"]) == 0
    assert only_object(capfd.readouterr().out)["rows"] == [{"set": "a", "PSNR": 4}]
    for arguments, message in (
        (["reproduce", "denoising"], "needs a data folder"),
        (["reproduce", "denoising", "--data", "gone"], "no such data folder"),
        (["reproduce", "unknown", "--data", "."], "choose one of: denoising"),
        (["reproduce", "torn", "--data", "."], "does not load"),
    ):
        assert main(arguments) == 2
        assert message in " ".join(capfd.readouterr().err.split())


def test_methods_are_read_from_their_files():
    """Would catch a kind of method whose folder moved, so that its list silently became empty."""
    found = all_methods()
    for folder in FOLDERS:
        assert [method for method in found if method.kind == folder.kind], folder
    for method in found:
        assert method.summary
        if method.kind != "domain":
            assert method.name in (CORE.parents[1] / method.file).read_text()
    assert "lowlevel" in {method.name for method in found if method.kind == "domain"}


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6))
def test_shapes_are_read_back(sizes):
    """Would catch a dimension that is dropped or swapped."""
    assert parse_shape("x".join(map(str, sizes))) == (tuple(sizes), "float32")
    assert parse_shape("X".join(map(str, sizes)) + ":int64") == (tuple(sizes), "int64")


@pytest.mark.parametrize("text", ["", "x", "3x", "0x3", "-1x3", "3,4", "axb", "1x3.5"])
def test_bad_shapes_are_user_errors(text):
    """Would catch a traceback, or a shape with an empty axis that fails much later."""
    with pytest.raises(WithinError, match="not a shape"):
        parse_shape(text)


def test_arguments_are_literals_or_strings():
    """Would catch a number passed on as text, or text that is evaluated."""
    texts = ["width=32", "act='relu'", "name=plain", "sizes=(1, 2)", "flag=True", "call=print(1)", "empty="]
    assert parse_arguments(texts) == {
        "width": 32,
        "act": "relu",
        "name": "plain",
        "sizes": (1, 2),
        "flag": True,
        "call": "print(1)",
        "empty": "",
    }
    with pytest.raises(WithinError, match="not name=value"):
        parse_arguments(["width"])


def test_factories_are_found_or_the_error_helps(tmp_path, monkeypatch):
    """Would catch an unhelpful error for each way in which a model can be misnamed."""
    (tmp_path / "own.py").write_text(
        "import torch\ndef network(width=4):\n    return torch.nn.Conv2d(3, width, 3)\ndef number():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    assert build_model("own:network", {"width": 7}).out_channels == 7
    assert build_model("own.py:network").out_channels == 4
    assert find_factory("torch.nn:Linear").__name__ == "Linear"
    for name, message in (
        ("own", "does not name a model"),
        ("own:netwrk", "did you mean network"),
        ("nowhere.at.all:f", "could not be imported"),
        ("gone.py:f", "no such file"),
        ("own:torch", "not something that builds"),
        ("own:number", "returned a int"),
    ):
        with pytest.raises(WithinError, match=message):
            build_model(name)
    with pytest.raises(WithinError, match="The factory raised TypeError"):
        build_model("own:network", {"depth": 3})


def test_main_returns_codes_instead_of_leaving(capsys):
    """Would catch a `main` that ends the process of whoever calls it."""
    assert main(["methods", "unknown-kind"]) == 2
    assert "choose one of" in capsys.readouterr().err


NETWORKS = """
import torch
from torch import nn

def small(width=8):
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 3, 3, padding=1))

class Strange(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        return self.second(torch.fft.fft2(self.first(x)).real)

class Branching(nn.Module):
    def forward(self, x):
        if x.sum() > 0:  # the line that the error must name
            return x
        return -x
"""


@pytest.fixture
def networks(tmp_path, monkeypatch) -> Path:
    """Returns the current folder, new, which holds `networks_for_cli.py`."""
    (tmp_path / "networks_for_cli.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("networks_for_cli", None)
    return tmp_path


def test_trace_counts_what_can_be_counted_by_hand(networks, capfd):
    """Would catch counts of another input, another width, or in another unit than said."""
    call = ["trace", "networks_for_cli:small", "--input", "2x3x16x16", "--set", "width=4", "--json"]
    assert main(call) == 0
    record = only_object(capfd.readouterr().out)
    macs = 2 * 16 * 16 * 9 * (3 * 4 + 4 * 3)
    assert record["macs"]["exact"] == macs == sum(kind["macs"] for kind in record["kinds"].values())
    assert record["parameters"] == 4 * 28 + 3 * 37
    assert record["model_bytes"] == 4 * record["parameters"]
    assert record["peak_memory"] == 2 * 16 * 16 * 4 * (4 + 4)
    assert record["group_sizes"] == {"0.weight": 4}
    assert record["unsupported"] == []
    assert main([*call[:-1], "--groups"]) == 0
    shown = capfd.readouterr().out
    assert f"{macs:,}" in shown
    assert "2.weight" in shown  # frozen: it reaches the output


def test_trace_names_operators_without_a_rule(networks, capfd):
    """Would catch an operator that is passed over in silence."""
    assert main(["trace", "networks_for_cli:Strange", "-i", "1x3x8x8"]) == 0
    assert "without a rule: " in capfd.readouterr().out
    assert main(["trace", "networks_for_cli:Strange", "-i", "1x3x8x8", "--json"]) == 0
    (found, *_) = only_object(capfd.readouterr().out)["unsupported"]
    assert "fft" in found["kind"]
    assert found["places"]


def test_trace_of_an_untraceable_model_names_the_users_line(networks, capfd):
    """Would catch an error that sends the user into torch's files instead of their own."""
    assert main(["trace", "networks_for_cli:Branching", "-i", "1x3x8x8"]) == 2
    said = capfd.readouterr().err
    line = 1 + NETWORKS.splitlines().index("        if x.sum() > 0:  # the line that the error must name")
    assert said.splitlines()[-1].startswith("within: The model cannot be traced")
    assert f"networks_for_cli.py:{line}" in said.splitlines()[-1]


def test_export_writes_a_verified_file(networks, capfd):
    """Would catch an export that is not checked, that goes elsewhere, or that needs a shape and does not say so."""
    assert main(["export", "networks_for_cli:small", "-i", "1x3x16x16", "-o", "small.onnx", "--json"]) == 0
    record = only_object(capfd.readouterr().out)
    assert Path(record["path"]).is_file()
    assert len(record["verification"]["shapes"]) == 2
    assert record["verification"]["max_relative"] < 1e-4
    assert main(["export", "networks_for_cli:small", "-o", "small.onnx"]) == 2
    assert main(["export", "networks_for_cli:small", "-i", "1x3x16x16"]) == 2
    assert main(["export", "networks_for_cli:small", "-i", "1x3x16x16:floot", "-o", "x.onnx"]) == 2
    assert "element type" in capfd.readouterr().err


CONFIG = """
model = dict(factory="networks_for_cli:small", arguments=dict(width=16))
inputs = [(1, 3, 16, 16)]
budgets = [dict(cost="Macs", fraction=0.5, convention="output_size")]
runtime = None
"""


@pytest.fixture
def configure(networks):
    """Returns a function that writes `half.py`: the configuration above with lines changed or added."""

    def write(*lines: str) -> str:
        (networks / "half.py").write_text(CONFIG + "\n".join(lines) + "\n")
        return "half.py"

    return write


def test_compress_writes_a_run_that_loads_again(networks, configure, capfd):
    """Would catch a run directory that lacks a file, breaks its budget, or rebuilds another model than was measured."""
    import torch

    from within.core import load
    from within.core.cli.factory import build_model

    (networks / "scores.py").write_text("def scores(model):\n    return {'PSNR': (30.0, 'dB'), 'loss': 1}\n")
    assert main(["compress", configure("evaluate = 'scores:scores'"), "--output", "run", "--json"]) == 0
    record = only_object(capfd.readouterr().out)
    files = {path.name for path in Path("run").iterdir()}
    assert files == {"config.py", "plan.json", "model.safetensors", "model.onnx", "metrics.json", "report.html"}
    (budget,) = record["metrics"]["budgets"]
    assert budget["held"]
    assert budget["achieved"] <= 0.5 * budget["before"]
    assert [row["name"] for row in record["metrics"]["quality"]] == ["PSNR", "loss"]
    for row in record["metrics"]["costs"]:
        assert row["after_measured"] == row["after_predicted"] < row["before_measured"]
    slim = load("run", lambda: build_model("networks_for_cli:small", {"width": 16}))
    assert sum(parameter.numel() for parameter in slim.parameters()) == next(
        row["after_measured"] for row in record["metrics"]["costs"] if row["name"] == "parameters"
    )
    assert main(["export", "run", "--output", "again.onnx", "--input", "1x3x24x24", "--json"]) == 0
    assert only_object(capfd.readouterr().out)["verification"]["shapes"][0] == [[1, 3, 24, 24]]
    assert slim(torch.zeros(1, 3, 16, 16)).shape == (1, 3, 16, 16)
    assert main(["compress", "half.py", "--output", "run"]) == 2
    assert "not empty" in capfd.readouterr().err
    assert {path.name for path in Path("run").iterdir()} == files


def test_compress_measures_on_the_runtime(configure, capfd):
    """Would catch a latency or a resident memory that is predicted where it should be measured."""
    assert main(["compress", configure("runtime = 'onnxruntime'"), "--json"]) == 0
    record = only_object(capfd.readouterr().out)
    assert record["run"] == "runs/half"
    measured = {row["name"]: row for row in record["metrics"]["costs"] if row["after_predicted"] is None}
    assert set(measured) == {"resident memory", "latency"}
    assert measured["latency"]["after_measured"] > 0
    assert "onnxruntime" in measured["latency"]["instrument"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("budget = []", "did you mean 'budgets'"),
        ("model = dict(factory='networks_for_cli:small', argument=1)", "did you mean 'arguments'"),
        ("model = 3", "The model has no factory"),
        ("inputs = []", "'inputs' is missing"),
        ("widths = 0.5", "either budgets or widths"),
        ("budgets = []", "either budgets or widths"),
        ("budgets = [dict(cost='Mac', fraction=0.5)]", "no cost named 'Mac'"),
        ("budgets = [dict(cost='Macs', convention='exact', fractoin=0.5)]", "There is no key named 'fractoin'"),
        ("budgets = [dict(cost='Macs', fraction=0.5, limit=3)]", "either a limit or a fraction"),
        ("budgets = [dict(cost='Macs', fraction=1e-6)]", "cannot be met"),
        ("importance = 'l3'", "no importance named 'l3'"),
        ("protect = ['nowhere']", "no module named 'nowhere'"),
        ("model = dict(factory='networks_for_cli:small', weights='gone.safetensors')", "gone.safetensors"),
        ("inputs = ((", "does not load"),
    ],
)
def test_compress_refuses_a_bad_configuration_and_leaves_no_run(configure, capfd, line, message):
    """Would catch a mistake in a configuration that is ignored, or that leaves half a run directory in the way."""
    assert main(["compress", configure(line), "--output", "run"]) == 2
    assert message in capfd.readouterr().err
    assert not Path("run").exists()


def test_calibration_goes_on_where_it_stopped(tmp_path, capsys):
    """Would catch a table that is measured anew each time, and one of another machine that is mixed with this one's."""
    table = tmp_path / "workspace.json"
    found = []
    for _ in range(2):
        assert main(["calibrate", "--table", str(table), "--limit", "1", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [each["operators"] for each in found] == [1, 2]
    assert found[1]["missing"] == found[0]["missing"] - 1
    record = json.loads(table.read_text())
    table.write_text(json.dumps(record | {"host": record["host"] | {"torch": "0.1"}}))
    assert main(["calibrate", "--table", str(table), "--limit", "1"]) == 2
    assert "another machine" in capsys.readouterr().err
