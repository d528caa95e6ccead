"""`within pack` and `within unpack`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.core.cli.process import only_object

from within.core.cli import main
from within.core.packing import unpack

NETWORK = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 3))

def data():
    inputs = torch.randn(200, 12, generator=torch.Generator().manual_seed(0))
    inputs[:, 6:] += 3 * inputs[:, :6]
    return inputs, inputs[:, :3].argmax(1)

def evaluate(model):
    inputs, target = data()
    return {"error": 100 * float((model(inputs).argmax(1) != target).float().mean())}
"""
CONFIG = """
model = dict(factory="network_to_pack:build", weights="model.safetensors")
density = {"0.*": 0.25, "2.*": 0.5}
bits = 3
data = "network_to_pack:data"
evaluate = "network_to_pack:evaluate"
rounds = 2
retraining = 100
retraining_rate = 1e-2
sharing = 10
distillation = dict(temperature=2.0, weight=0.1)
batch_size = 50
"""


@pytest.fixture
def checkpoint(tmp_path, monkeypatch) -> Path:
    """Returns `model.safetensors` in the current folder, which is new, with the network that it is of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("network_to_pack.py").write_text(NETWORK)
    Path("config.py").write_text(CONFIG)
    generator = torch.Generator().manual_seed(0)
    shapes = {"0.weight": (20, 12), "0.bias": (20,), "2.weight": (3, 20), "2.bias": (3,)}
    state = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file(state, "model.safetensors")
    return Path("model.safetensors")


def test_a_checkpoint_goes_there_and_back_unchanged(checkpoint, capfd):
    """Catches a loss where nothing was asked to be lost, and JSON that describes another file."""
    assert main(["pack", str(checkpoint), "--json"]) == 0
    record = only_object(capfd.readouterr().out)
    assert record["file_bytes"] == Path("model.within").stat().st_size == Path(record["path"]).stat().st_size
    assert sum(record["parts"].values()) == record["file_bytes"]
    assert record["rate"] == pytest.approx(record["dense_bytes"] / record["file_bytes"])
    assert main(["unpack", "model.within", "-o", "back.safetensors", "--json"]) == 0
    assert only_object(capfd.readouterr().out)["tensors"] == 4
    before, after = load_file(checkpoint), load_file("back.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_pruning_and_sharing_without_training(checkpoint, capfd):
    """Catches options that do not reach the weights, or that reach the biases."""
    assert main(["pack", str(checkpoint), "--density", "0.1", "--bits", "2", "-o", "small.within"]) == 0
    shown = capfd.readouterr().out
    assert "small.within" in shown
    assert "times smaller" in shown
    found, dense = unpack("small.within"), load_file(checkpoint)
    assert int((found["0.weight"] != 0).sum()) == 24
    assert len(found["0.weight"].unique()) <= 5
    assert torch.equal(found["0.bias"], dense["0.bias"])
    assert main(["pack", str(checkpoint), "--quality", "1", "--gap-bits", "3", "--no-huffman", "-o", "q.within"]) == 0
    kept = unpack("q.within")["0.weight"] != 0
    assert torch.equal(kept, dense["0.weight"].abs() >= dense["0.weight"].std(correction=0))


def test_a_configuration_retrains(checkpoint, capfd):
    """Catches stages of a configuration that are left out, and metrics of other weights than the file's."""
    assert main(["pack", "config.py", "--json"]) == 0
    record = only_object(capfd.readouterr().out)
    tensors = {tensor["name"]: tensor for tensor in record["tensors"]}
    assert tensors["0.weight"]["nonzeros"] == 60
    assert tensors["2.weight"]["clusters"] <= 8
    assert record["after"]["error"] < record["before"]["error"]  # the weights were random, the data are learnt
    assert Path("config.within").is_file()


def test_the_surgeon_of_a_configuration_is_called(checkpoint, capfd):
    """Catches a key without effect: without training, the surgeon's network is nearer to the dense one's answers."""
    state = load_file(checkpoint)
    inputs = network_inputs()
    errors = {}
    for count in (0, 150):
        Path("config.py").write_text(CONFIG + f"surgeon = {count}\nretraining = sharing = 0\nbits = None\n")
        assert main(["pack", "config.py"]) == 0
        change = unpack("config.within")["0.weight"] - state["0.weight"]
        errors[count] = float(((inputs @ change.T) ** 2).sum())
    assert errors[150] < 0.8 * errors[0]


def network_inputs() -> torch.Tensor:
    """The data of the network above, which reads them through correlated inputs."""
    inputs = torch.randn(200, 12, generator=torch.Generator().manual_seed(0))
    inputs[:, 6:] += 3 * inputs[:, :6]
    return inputs


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("densty = 0.1", "did you mean 'density'"),
        ("model = dict(factory='network_to_pack:build')", "no model with weights"),
        ("data = None", "Training needs data"),
        ("density = {'1.*': 0.5}", "fits no weight"),
        ("quality = 1.0", "not both"),
    ],
)
def test_a_wrong_configuration_says_what_is_wrong(checkpoint, capfd, line, message):
    """Catches a key that is passed over in silence."""
    Path("config.py").write_text(f"{CONFIG}\n{line}\n")
    assert main(["pack", "config.py"]) == 2
    assert message in " ".join(capfd.readouterr().err.split())
    assert not Path("config.within").exists()


def test_damage_is_an_error_and_leaves_nothing(checkpoint, capfd):
    """Catches a checkpoint that is written from a damaged file, or an existing one that is replaced."""
    assert main(["pack", str(checkpoint)]) == 0
    data = bytearray(Path("model.within").read_bytes())
    data[len(data) // 2] ^= 1
    Path("broken.within").write_bytes(data)
    capfd.readouterr()
    assert main(["unpack", "broken.within"]) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert "checksum" in said
    assert "broken.within" in said
    assert not Path("broken.safetensors").exists()
    assert main(["unpack", "model.within"]) == 2  # model.safetensors is there
    assert "--overwrite" in capfd.readouterr().err
    assert main(["unpack", "model.within", "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pack", "missing.safetensors"], "no such checkpoint"),
        (["pack", "model.safetensors", "--bits", "40"], "Codes of 40 bits"),
        (["pack", "model.safetensors", "--density", "7"], "density of 7"),
        (["pack", "model.safetensors", "--gap-bits", "0"], "Gaps of 0 bits"),
        (["pack", "model.safetensors", "--bits", "3", "--initial", "best"], "no start named"),
        (["pack", "model.safetensors", "--density", "0.1", "--quality", "1"], "one of the two"),
        (["pack", "config.py", "--bits", "3"], "says all of this itself"),
        (["pack", "config.py", "--no-huffman"], "says all of this itself"),
        (["unpack", "missing.within"], "Could not read"),
        (["unpack", "network_to_pack.py"], "no packed file"),
    ],
)
def test_wrong_use_is_one_paragraph(checkpoint, capfd, arguments, message):
    """Catches a traceback, and a message without a cause."""
    assert main(arguments) == 2
    assert message in " ".join(capfd.readouterr().err.split())


def test_torch_files_are_read_as_tensors_only(checkpoint, capfd):
    """Catches a file of others that runs code when it is read."""
    torch.save({"state_dict": load_file(checkpoint)}, "plain.pth")
    assert main(["pack", "plain.pth"]) == 0
    torch.save({"model": torch.nn.Linear(2, 2)}, "code.pth")
    assert main(["pack", "code.pth"]) == 2
    torch.save([1, 2], "list.pth")
    assert main(["pack", "list.pth"]) == 2
    assert "holds no weights" in capfd.readouterr().err
