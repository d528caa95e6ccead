"""`within lowlevel`: quick to start, an example for every command, one JSON object, one paragraph for a mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from within.core.cli import main
from within.core.cli.options import height_width, read_settings
from within.core.cost import Macs, PeakMemory
from within.core.errors import WithinError
from within.core.graph import trace
from within.core.pruning import prune, save
from within.lowlevel.cli import app
from within.lowlevel.data import sample_image, write_image
from within.lowlevel.eval import main as evaluate
from within.lowlevel.models import build, example_inputs, names
from within.lowlevel.weights import load_weights

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]
SMALL = ["--set", "depth=3", "--set", "width=8"]
ARGUMENTS = {"depth": 3, "width": 8}


def run(*arguments: str) -> int:
    return main(["lowlevel", *map(str, arguments)])


def only_object(capsys) -> dict:
    """Returns the one JSON object that standard output must be."""
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1, shown
    value = json.loads(shown, parse_constant=pytest.fail)
    assert isinstance(value, dict)
    return value


def refused(capsys, *arguments: str) -> str:
    """Returns the one paragraph with which the command must refuse."""
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("within: ")
    assert shown.err.count("\n") == 1, shown.err
    return shown.err


@pytest.fixture
def photographs(tmp_path) -> Path:
    """Returns a folder with two small gray photographs."""
    for name, corner in (("camera", 100), ("coins", 0)):
        image = sample_image(name)[corner : corner + 64, corner : corner + 72]
        write_image(tmp_path / "photographs" / f"{name}.png", image[:, :, :1])
    return tmp_path / "photographs"


@pytest.fixture
def weights(tmp_path) -> Path:
    """Returns the weights of a small DnCNN."""
    torch.manual_seed(0)
    save_file(build("dncnn_s", **ARGUMENTS).state_dict(), tmp_path / "dncnn.safetensors")
    return tmp_path / "dncnn.safetensors"


def test_importing_the_commands_imports_no_torch():
    """Would catch an import that makes every `--help` wait seconds for torch."""
    code = (
        "import sys, within.lowlevel.cli\nfrom within.core.cli import main\n"
        "assert main(['lowlevel', '--help']) == 0\nassert main(['lowlevel', 'plan', '--help']) == 0\n"
        "slow = {'torch', 'scipy', 'onnx', 'matplotlib', 'mmengine'} & set(sys.modules)\nassert not slow, slow"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_every_command_of_the_package_is_there():
    """Would catch a command that is written and not registered."""
    assert COMMANDS == ["train", "eval", "compress", "plan", "export", "networks"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    """Would catch a command without an example, `--debug` or `--json`."""
    assert run(command, "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Example: within lowlevel {command}" in shown
    assert "--debug" in shown
    assert "--json" in shown


def test_plan_prints_one_object(capsys):
    """Would catch output beside the object, and figures that a program cannot read."""
    size = ["--size", "150x170", "--budget-mib", "0.7"]
    assert run("plan", "--network", "dncnn_s", *size, *SMALL, "--json") == 0
    record = only_object(capsys)
    assert record["exact"] is True
    assert record["peak_bytes"] <= record["budget_bytes"] < record["untiled_bytes"]
    assert record["rows"] * record["columns"] > 1
    assert run("plan", "--network", "dncnn_s", *size, *SMALL) == 0
    assert "halo" in capsys.readouterr().out


def test_plan_refuses_with_the_reason_or_warns(capsys):
    """Would catch tiles that change the result and do not say so."""
    arguments = ["plan", "-n", "imdn_x2", "--set", "depth=1", "--size", "90x90", "--budget-mib", "10"]
    assert "std in blocks.0.attention" in refused(capsys, *arguments)
    assert run(*arguments, "--allow-inexact", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["exact"] is False
    assert "not exact" in shown.err
    assert "No tile fits" in refused(capsys, "plan", "-n", "dncnn_s", *SMALL, "--size", "90x90", "--budget-mib", "0.05")


def test_plan_with_scratch_memory_takes_smaller_tiles(capsys):
    """Would catch a workspace table that is not consulted."""
    tiles = []
    for option in ([], ["--workspace"]):
        size = ["--size", "300x300", "--budget-mib", "3", "--json"]
        assert run("plan", "--network", "dncnn_s", *SMALL, *size, *option) == 0
        tiles.append(only_object(capsys)["tile"])
    assert tiles[1] < tiles[0]


def test_eval_by_name_equals_the_function(capsys, photographs, weights):
    """Would catch an option that does not arrive."""
    arguments = ["--network", "dncnn_s", "--weights", weights, "--data", photographs, "--sigma", "25", *SMALL]
    assert run("eval", *arguments, "--json") == 0
    (result,) = only_object(capsys)["results"].values()
    expected = evaluate(
        {"network": "dncnn_s", "weights": weights, "data": photographs, "sigma": 25, "overrides": ARGUMENTS}
    )
    assert result == expected.to_json()
    assert run("eval", *arguments) == 0
    assert "mean of 2" in capsys.readouterr().out


def test_eval_by_file_and_of_a_run(capsys, tmp_path, photographs, weights):
    """Would catch a configuration or a run directory that is measured differently from its parts."""
    config = tmp_path / "measure.py"
    config.write_text(
        f"network = 'dncnn_s'\nweights = {str(weights)!r}\ndata = {str(photographs)!r}\nsigma = 25\n"
        f"overrides = dict({ARGUMENTS!r})\n"
    )
    assert run("eval", config, "--json") == 0
    (by_file,) = only_object(capsys)["results"].values()
    dense = build("dncnn_s", **ARGUMENTS)
    load_weights(dense, weights)
    save(prune(dense, (torch.rand(1, 1, 32, 32),), widths=1.0), tmp_path / "run")
    arguments = ["eval", "-n", "dncnn_s", "-w", tmp_path / "run", "--data", photographs, "--sigma", "25", *SMALL]
    assert run(*arguments, "--json") == 0
    (of_run,) = only_object(capsys)["results"].values()
    assert of_run == by_file


def test_eval_names_what_is_missing(capsys, tmp_path, photographs, weights):
    """Would catch a traceback, and options beside a configuration that are ignored."""
    assert "Nothing says what to do" in refused(capsys, "eval")
    assert "which images" in refused(capsys, "eval", "-n", "dncnn_s", "-w", weights)
    assert "no weights" in refused(capsys, "eval", "-n", "dncnn_s", "--data", photographs)
    assert "not both" in refused(capsys, "eval", "measure.py", "--data", photographs)
    assert "no such configuration" in refused(capsys, "eval", tmp_path / "absent.py")
    wrong = refused(capsys, "eval", "-n", "dncnn_s", "-w", weights, "--data", photographs, "--sigma", "25")
    assert "unexpected" in wrong or "missing" in wrong
    arguments = ["eval", "-n", "dncnn_s", *SMALL, "-w", weights, "--sigma", "25"]
    assert "folder" in refused(capsys, *arguments, "--data", tmp_path / "absent").lower()


def test_networks_lists_all_and_traces_some(capsys):
    """Would catch a network that is left out, and figures that are not those of a trace."""
    assert run("networks", "--json") == 0
    assert [row["name"] for row in only_object(capsys)["networks"]] == list(names())
    assert run("networks", "imdn_rtc_x2", "--size", "48x64", "--json") == 0
    (row,) = only_object(capsys)["networks"]
    graph = trace(build("imdn_rtc_x2"), example_inputs("imdn_rtc_x2", 48, 64))
    assert (row["peak_memory"], row["macs"]) == (PeakMemory()(graph), Macs()(graph))
    assert run("networks", "--task", "enhance") == 0
    assert "dce_net" in capsys.readouterr().out
    assert "choose one of" in refused(capsys, "networks", "--task", "paint")
    assert "multiples of 16" in refused(capsys, "networks", "pmrid", "--size", "40x48")


def test_export_of_a_network_by_name(capsys, tmp_path, weights):
    """Would catch an export that does not say where its files are."""
    assert run("export", "dncnn_s", tmp_path / "net.onnx", "--weights", weights, *SMALL, "--json") == 0
    record = only_object(capsys)
    assert Path(record["onnx"]["path"]).is_file()
    assert record["onnx"]["dynamic_axes"] == [[0, 2, 3]]
    assert "must end in .onnx" in refused(capsys, "export", "dncnn_s", tmp_path / "net.pt", *SMALL)


def test_train_and_its_run_directory(capsys, tmp_path, photographs):
    """Would catch settings that do not arrive, and a run that overwrites another."""
    config = tmp_path / "train.py"
    config.write_text(
        "name = 'small'\nnetwork = 'dncnn_s'\narguments = dict(depth=3, width=8)\nbatch_size = 2\n"
        f"train = dict(gt={str(photographs)!r}, sigma=25, patch_size=32)\nloss = dict(type='l1')\n"
        "optimizer = dict(type='Adam', lr=1e-3)\niterations = 50\n"
    )
    arguments = ["train", config, "--run", tmp_path / "run", "--set", "iterations=2", "--set", "train.patch_size=16"]
    assert run(*arguments, "--json") == 0
    record = only_object(capsys)
    assert record["iterations"] == 2
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert "exists and is not empty" in refused(capsys, *arguments)
    assert "iteratoins" in refused(capsys, "train", config, "--run", tmp_path / "other", "--set", "iteratoins=2")
    assert run("export", tmp_path / "run", tmp_path / "trained.onnx", "--json") == 0
    assert only_object(capsys)["network"] == "dncnn_s"


def test_compress_by_options(capsys, tmp_path, photographs, weights):
    """Would catch an option that the job does not receive, and a run that cannot be evaluated and exported."""
    run_directory = tmp_path / "half"
    arguments = [
        "compress", "-n", "dncnn_s", "-w", weights, "--data", photographs, "--sigma", "25", "--size", "64x64",
        "--set", "arguments.depth=3", "--set", "arguments.width=8", "--set", "fine_tuning.iterations=2",
        "--set", "fine_tuning.patch_size=32", "--set", "fine_tuning.batch_size=2", "--set", "calibration=8",
        "--set", "runtime=None", "--set", "test=None", "--set", "step=1", "--run", run_directory,
    ]  # fmt: skip
    assert "either fraction or budget_mib" in refused(capsys, *arguments)
    assert run(*arguments, "--fraction", "0.7", "--json") == 0
    record = only_object(capsys)
    assert Path(record["report"]).is_file()
    assert record["run"] == str(run_directory)
    assert run("eval", "-w", run_directory, "--data", photographs, "--sigma", "25", "--json") == 0
    assert len(only_object(capsys)["results"]) == 1
    assert "no such configuration" in refused(capsys, "compress", tmp_path / "absent.py")


def test_basicsr_names_say_what_to_install(capsys, monkeypatch):
    """Would catch a ModuleNotFoundError for those who do not have BasicSR."""
    monkeypatch.setitem(sys.modules, "basicsr", None)
    monkeypatch.setitem(sys.modules, "basicsr.archs", None)
    shown = refused(capsys, "plan", "--network", "basicsr:EDSR", "--size", "64x64", "--budget-mib", "10")
    assert "within-lowlevel[basicsr]" in shown


def test_sizes_and_settings_are_read():
    """Would catch a size of one number, and a value that is taken for the wrong type."""
    assert height_width("512x768") == (512, 768)
    for wrong in ("512", "5x6x7", "0x4", "axb", "4x4:int64"):
        with pytest.raises(WithinError):
            height_width(wrong)
    read = read_settings(["a=1", "b.c=(2, 3)", "d=text", "e=x=y"])
    assert read == {"a": 1, "b.c": (2, 3), "d": "text", "e": "x=y"}
    for wrong in ("a", "=1", "a b=1", "a..b=1"):
        with pytest.raises(WithinError, match="name=value"):
            read_settings([wrong])
