"""`within compress`: the run that it writes, and the configurations that it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.core.cli.process import only_object

from within.core.cli import main
from within.core.cli.factory import build_model


def test_compress_writes_a_run_that_loads_again(networks, configure, capfd):
    """Would catch a run directory that lacks a file, breaks its budget, or rebuilds another model than was measured."""
    import torch

    from within.core import load

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
        ("budgets = [dict(cost='Macs', convention='exact', fractoin=0.5)]", "There is no setting 'fractoin'"),
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
