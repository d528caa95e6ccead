"""Export: the files compute what the network does at any size it takes, and the network comes back from them."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from within.core.device import runtime
from within.core.errors import WithinError
from within.core.pruning import prune, save, save_model
from within.lowlevel.export import export, load_exported, main
from within.lowlevel.models import build, variant
from within.lowlevel.named_network import open_network

CASES = {
    "unet": {"widths": (4, 8, 8), "up": "nearest"},
    "edsr_baseline_x2": {"depth": 1, "width": 8},
    "rrdbnet_x2": {"depth": 1, "width": 8, "growth": 4},
}


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def output(model: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(*inputs)


@pytest.mark.parametrize("name", CASES)
def test_onnx_runs_at_a_third_size_and_the_network_comes_back(name, tmp_path):
    """Would catch a file that is right only at the sizes it was verified at, and weights that belong to another net."""
    torch.manual_seed(0)
    exported = main({"network": name, "arguments": CASES[name], "output": tmp_path / "net.onnx"})
    assert files(tmp_path) == ["net.json", "net.onnx", "net.safetensors"]
    assert exported.onnx.dynamic_axes == ((0, 2, 3),)
    assert exported.onnx.static_reason is None
    loaded = load_exported(exported.description)
    image = torch.rand(3, 3, 13 * loaded.size_multiple, 9 * loaded.size_multiple)
    session = runtime("onnxruntime").load(exported.onnx.path)
    torch.testing.assert_close(session.run([image])[0], output(loaded, image), atol=1e-4, rtol=1e-4)
    record = json.loads(exported.description.read_text())["provenance"]
    assert (record["network"], record["scale"]) == (name, variant(name).scale)
    assert record["size_multiple"] == loaded.size_multiple
    assert record["onnx"]["path"] == "net.onnx"
    json.dumps(exported.to_json())


def test_noise_level_is_fixed_in_the_file(tmp_path):
    """Would catch a noise level that is lost, or one that the exporter reads as an image."""
    torch.manual_seed(0)
    config = {"network": "ffdnet_gray", "arguments": {"depth": 3, "width": 8}, "output": tmp_path / "net.onnx"}
    with pytest.raises(WithinError, match="how strong the noise is"):
        main(config)
    assert files(tmp_path) == []
    exported = main({**config, "sigma": 40})
    image = torch.rand(1, 1, 30, 44)
    expected = output(load_exported(exported.description), image, torch.full((1, 1, 1, 1), 40 / 255))
    (obtained,) = runtime("onnxruntime").load(exported.onnx.path).run([image])
    torch.testing.assert_close(obtained, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prefer", ["module", "graph"])
def test_compressed_run_is_exported_and_comes_back(prefer, tmp_path):
    """Would catch an export of the dense network, and a graph module that forgets what size it needs."""
    torch.manual_seed(0)
    arguments = {"widths": (8, 16), "up": "nearest"}
    dense = build("unet", **arguments)
    result = prune(dense, (torch.rand(1, 3, 32, 32),), widths=0.5, prefer=prefer)
    save(result, tmp_path / "run")
    (tmp_path / "run" / "config.py").write_text(f"network = 'unet'\narguments = dict({arguments!r})\n")
    named = open_network(tmp_path / "run")
    assert (named.name, named.scale, named.size_multiple, named.channels) == ("unet", 1, 2, 3)
    exported = main({"network": str(tmp_path / "run"), "output": tmp_path / "half.onnx"})
    loaded = load_exported(exported.description)
    assert (loaded.scale, loaded.size_multiple) == (1, 2)
    assert sum(p.numel() for p in loaded.parameters()) < 0.4 * sum(p.numel() for p in dense.parameters())
    image = torch.rand(2, 3, 26, 38)
    expected = output(result.model, image)
    assert torch.equal(output(loaded, image), expected)
    (obtained,) = runtime("onnxruntime").load(exported.onnx.path).run([image])
    torch.testing.assert_close(obtained, expected, atol=1e-4, rtol=1e-4)


def test_networks_are_found_by_every_kind_of_name(tmp_path):
    """Would catch a run directory whose network must be guessed, or a guess where nothing says it."""
    torch.manual_seed(0)
    dense = build("dncnn_s", depth=3, width=8)
    trained = tmp_path / "trained"
    trained.mkdir()
    save_file(dense.state_dict(), trained / "model.safetensors", metadata={"network": "dncnn_s"})
    found = open_network(trained, arguments={"depth": 3, "width": 8})
    assert found.plan is None
    image = torch.rand(1, 1, 20, 20)
    assert torch.equal(output(found.model, image), output(dense, image))
    assert torch.equal(
        output(open_network(weights=trained, arguments=found.arguments).model, image), output(dense, image)
    )

    result = prune(dense, (image,), widths=0.5)
    recorded = result.plan.__class__(
        result.plan.model, result.plan.inputs, result.plan.steps,
        {**result.plan.provenance, "network": "dncnn_s", "arguments": {"depth": 3, "width": 8}},
    )  # fmt: skip
    (tmp_path / "half").mkdir()
    save_model(result.model, recorded, tmp_path / "half")
    assert torch.equal(output(open_network(tmp_path / "half").model, image), output(result.model, image))

    save(result, tmp_path / "nameless")
    with pytest.raises(WithinError, match="does not say which network"):
        open_network(tmp_path / "nameless")
    with pytest.raises(WithinError, match="made for another model"):
        open_network("dncnn_s", weights=tmp_path / "nameless", arguments={"depth": 5})
    with pytest.raises(WithinError, match="no run directory"):
        open_network("dncnn_s", weights=tmp_path)
    with pytest.raises(WithinError, match="no network named"):
        open_network("dncnn_z")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"networks": "unet"}, "no setting 'networks'"),
        ({"output": None}, "where the ONNX file goes"),
        ({"output": "net.pt"}, "must end in .onnx"),
        ({"size": (33, 40)}, "multiples of 2, not 33 x 40"),
        ({"network": "unett"}, "did you mean unet"),
        ({"weights": "absent.pth"}, "no such file of weights"),
    ],
)
def test_wrong_settings_leave_no_files(change, message, tmp_path):
    """Would catch an error that comes after half of the files were written."""
    folder = tmp_path / "out"
    config = {"network": "unet", "arguments": {"widths": (4, 8)}, "output": folder / "net.onnx", **change}
    if change.get("output"):
        config["output"] = folder / change["output"]
    with pytest.raises(WithinError, match=message):
        main(config)
    assert files(folder) == []


def test_damaged_weights_are_refused(tmp_path):
    """Would catch NaN that is exported, and a description whose weights are of another network."""
    named = open_network("unet", arguments={"widths": (4, 8)})
    exported = export(named, tmp_path / "net.onnx")
    save_file({"nothing": torch.zeros(1)}, exported.weights)
    with pytest.raises(WithinError, match="another architecture"):
        load_exported(exported.description)
    next(named.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(WithinError, match="NaN"):
        export(named, tmp_path / "nan" / "net.onnx")
    assert files(tmp_path / "nan") == []
