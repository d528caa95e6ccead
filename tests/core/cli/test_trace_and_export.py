"""`within trace` and `within export`."""

from __future__ import annotations

from pathlib import Path

from tests.core.cli.process import only_object

from within.core.cli import main


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
    text = (networks / "networks_for_cli.py").read_text()
    line = 1 + text.splitlines().index("        if x.sum() > 0:  # the line that the error must name")
    assert said.splitlines()[-1].startswith("within: The model cannot be traced")
    assert f"networks_for_cli.py:{line}" in said.splitlines()[-1]


def test_export_writes_a_verified_file(networks, capfd):
    """Would catch an export that is not checked, that goes elsewhere, or that needs a shape and does not say so."""
    assert main(["export", "networks_for_cli:small", "-i", "1x3x16x16", "-o", "small.onnx", "--json"]) == 0
    record = only_object(capfd.readouterr().out)
    assert Path(record["path"]).is_file()
    assert len(record["verification"]["shapes"]) == 2
    assert record["verification"]["max_relative"] < 1e-4
    (networks / "net.py").write_text("model = dict(factory='networks_for_cli:small')\ninputs = [(1, 3, 16, 16)]\n")
    capfd.readouterr()
    assert main(["export", "net.py", "-o", "again.onnx", "--json"]) == 0
    assert only_object(capfd.readouterr().out)["verification"]["max_relative"] < 1e-4
    assert main(["export", "networks_for_cli:small", "-o", "small.onnx"]) == 2
    assert main(["export", "networks_for_cli:small", "-i", "1x3x16x16"]) == 2
    assert main(["export", "networks_for_cli:small", "-i", "1x3x16x16:floot", "-o", "x.onnx"]) == 2
    assert "element type" in capfd.readouterr().err
