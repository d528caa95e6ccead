"""`within quantize` and `within bench-runtime`: the run that is written, what is refused, and timings of files."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.core.cli.process import only_object

from within.core.cli import main

CONFIG = """
model = dict(factory="networks_for_cli:small", arguments=dict(width=256))
inputs = [(1, 3, 16, 16)]
calibration = "calibration_for_cli:batches"
"""
CALIBRATION = """
import torch

def batches():
    return [torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]

def nothing():
    return []

def images():
    return torch.cat(batches())

def scores(model):
    return {"sum": (float(model(batches()[0]).detach().sum()), "dB")}
"""


@pytest.fixture
def configure(networks):
    """Returns a function that writes `int8.py`, with lines added."""
    (networks / "calibration_for_cli.py").write_text(CALIBRATION)

    def write(*lines: str) -> str:
        (networks / "int8.py").write_text(CONFIG + "\n".join(lines) + "\n")
        return "int8.py"

    return write


def test_a_run_is_written_and_loads_again(configure, capfd):
    """Would catch a run that cannot be rebuilt, a file that was not compared, and a report without sensitivities."""
    import torch

    from within.core import load
    from within.core.cli.factory import build_model

    assert main(["quantize", configure("evaluate = 'calibration_for_cli:scores'"), "--output", "run", "--json"]) == 0
    record = only_object(capfd.readouterr().out)
    files = {path.name for path in Path("run").iterdir()}
    assert files == {"config.py", "plan.json", "model.safetensors", "model.onnx", "metrics.json", "report.html"}
    (sizes, latency) = record["metrics"]["costs"]
    assert sizes["after_measured"] < sizes["before_measured"]
    assert latency["after_measured"] > 0
    (table,) = record["metrics"]["tables"]
    assert [row[0] for row in table["rows"]] == ["0", "2"]
    assert "Sensitivity" in Path("run/report.html").read_text()
    rebuilt = load("run", lambda: build_model("networks_for_cli:small", {"width": 256})).eval()
    assert rebuilt(torch.zeros(2, 3, 16, 16)).shape == (2, 3, 16, 16)
    assert main(["quantize", "int8.py", "--output", "run"]) == 2


def test_a_compressed_run_is_quantised_further(configure, networks, capfd):
    """Would catch a plan that forgets the pruning before it."""
    (networks / "half.py").write_text(
        "model = dict(factory='networks_for_cli:small', arguments=dict(width=16))\ninputs = [(1, 3, 16, 16)]\n"
        "budgets = [dict(cost='Macs', fraction=0.5)]\nruntime = None\n"
    )
    assert main(["compress", "half.py", "--output", "half", "--json"]) == 0
    configure()
    (networks / "int8.py").write_text("model = dict(run='half')\ncalibration = 'calibration_for_cli:batches'\n")
    capfd.readouterr()
    assert main(["quantize", "int8.py", "--output", "both", "--json"]) == 0
    from within.core.plan import read_plan

    assert [step.function.rpartition(":")[2] for step in read_plan("both/plan.json").steps][-1] == "insert"
    assert len(read_plan("both/plan.json").steps) == 2
    capfd.readouterr()
    call = ["bench-runtime", "half", "both/model.onnx", "-i", "1x3x16x16", "--repeats", "3", "--json"]
    assert main(call) == 0
    timings = only_object(capfd.readouterr().out)
    assert list(timings) == ["half on onnxruntime", "both/model.onnx on onnxruntime"]
    assert timings["half on onnxruntime"]["ratio"] == 1
    assert main(["bench-runtime", "gone.onnx", "-i", "1x3x16x16"]) == 2
    Path("times.py").write_text("files = ['half', 'both']\ninputs = [(1, 3, 16, 16)]\nrepeats = 3\n")
    assert main(["bench-runtime", "times.py", "--json"]) == 0
    assert list(only_object(capfd.readouterr().out)) == ["half on onnxruntime", "both on onnxruntime"]
    assert main(["bench-runtime", "half"]) == 2
    assert main(["export", "both", "-o", "again.onnx", "--json"]) == 0
    again = only_object(capfd.readouterr().out)
    assert again["steps"] <= 1.001
    assert again["integer_operators"]["Conv"] == 2
    assert Path("again.onnx").stat().st_size == pytest.approx(Path("both/model.onnx").stat().st_size, rel=0.01)


def test_every_layer_gets_its_bits_within_the_budget(configure, capfd):
    """Would catch bits that are chosen and not used, and a budget that the report does not show."""
    assert (
        main(["quantize", configure("mixed = dict(fraction=0.8, keep_ends=False)"), "--output", "run", "--json"]) == 0
    )
    metrics = only_object(capfd.readouterr().out)["metrics"]
    assert "optimality gap 0" in str(metrics["certificate"])
    assert any(weight < 8 or inputs < 8 for _, weight, inputs, _ in metrics["tables"][0]["rows"])


def test_training_goes_on_with_the_quantisers_in_place(configure, capfd):
    """Would catch training that is not saved, and one that cannot be resumed where it was interrupted."""
    from within.core.checkpoint import load_state

    rate = "optimizer=dict(type='SGD', lr=1e-2)"
    training = f"training = dict(data='calibration_for_cli:images', iterations=6, batch_size=4, {rate})"
    assert main(["quantize", configure(training), "--output", "run", "--json"]) == 0
    record = only_object(capfd.readouterr().out)
    assert "quantisation-aware training" in record["metrics"]["certificate"].values()
    assert (Path("run") / "training" / "training.json").is_file()
    assert main(["quantize", configure(), "--output", "untrained", "--json"]) == 0
    trained, untrained = (load_state(Path(run) / "model.safetensors") for run in ("run", "untrained"))
    assert any(not trained[name].equal(untrained[name]) for name in trained)
    assert main(["quantize", configure(training), "--output", "run", "--resume", "--json"]) == 0
    again = load_state(Path("run") / "model.safetensors")
    assert all(again[name].equal(trained[name]) for name in trained)


def test_a_network_calibrated_elsewhere_comes_in(configure, networks, capfd):
    """Would catch ranges read from the file and not used, and a file of torch that is refused."""
    import torch

    from within.core.cli.factory import build_model

    model = build_model("networks_for_cli:small", {"width": 16})
    state = dict(model.state_dict())
    layers = [
        name.rpartition(".")[0] for name, tensor in state.items() if name.endswith("weight") and tensor.dim() == 4
    ]
    for layer in layers:
        state[f"{layer}._weight_quantizer._amax"] = state[f"{layer}.weight"].abs().max()
        state[f"{layer}._input_quantizer._amax"] = torch.tensor(3.0)
    torch.save({"state_dict": state}, networks / "ptq.pth")
    weights = "weights='ptq.pth', layout='pytorch_quantization'"
    line = f"model = dict(factory='networks_for_cli:small', arguments=dict(width=16), {weights})"
    assert main(["quantize", configure(line), "--output", "run", "--json"]) == 0
    record = only_object(capfd.readouterr().out)
    assert [row[0] for row in record["metrics"]["tables"][0]["rows"]] == layers


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("calibration = 'calibration_for_cli:nothing'", "no calibration data"),
        ("calibration = None", "no calibration data"),
        ("quantization = dict(bits=8)", "not pairs by layer"),
        ("quantization = dict(weight_bit=8)", "did you mean 'weight_bits'"),
        ("quantization = dict(weight_bits=9)", "9 bits"),
        ("quantization = dict(calibrator='magic')", "no calibrator named"),
        ("quantization = dict(keep_float=['nowhere'])", "No layer is named 'nowhere'"),
        ("exporter = 'mail'", "no exporter named"),
        ("model = dict(run='gone')", "gone"),
        ("model = dict(weights='w')", "neither a factory nor a run"),
        ("model = dict(factory='f', weights='w', layout='magic')", "no layout named"),
        ("model = dict(factory='f', layout='modelopt')", "needs the weights"),
        ("mixed = dict()", "a fraction or a limit"),
        ("mixed = dict(fraction=0.5)\nquantization = dict(bits={'0': (4, 4)})", "given twice"),
        ("training = dict(data='calibration_for_cli:images')", "needs data and iterations"),
        ("training = dict(data='d:d', iterations=1, distillation=None)", "a loss or distillation"),
    ],
)
def test_a_bad_configuration_leaves_no_run(configure, capfd, line, message):
    """Would catch forgotten calibration, a mistyped key, and half a run directory in the way."""
    assert main(["quantize", configure(line), "--output", "run"]) == 2
    assert message in " ".join(capfd.readouterr().err.split())
    assert not Path("run").exists()
