"""Published tables: every configuration names what exists, and a row whose data are there is measured."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from within.core.cli.configuration import load_config
from within.core.cli.reproduce import run_table, tables
from within.core.errors import WithinError
from within.lowlevel.data.images import write_image
from within.lowlevel.data.sample_images import sample_image
from within.lowlevel.models import build, variant
from within.lowlevel.protocols import find_protocol
from within.lowlevel.tables import restoration, table_rows

OURS = [name for name, path in tables().items() if "within.lowlevel" in path.read_text()]


@pytest.mark.parametrize("table", OURS)
def test_rows_name_what_exists(table):
    """Would catch a network, protocol or metric that was renamed."""
    rows = table_rows(load_config(tables()[table]))
    assert rows
    for row in rows:
        variant(row.network)
        assert row.metric in [metric.name for metric in find_protocol(row.protocol).metrics], row.name


def test_rows_with_data_are_measured_and_others_say_what_is_missing(tmp_path):
    """Would catch a figure that is not measured but copied from the reference."""
    torch.manual_seed(0)
    model = build("dncnn_s", depth=3, width=8)
    (tmp_path / "weights").mkdir()
    save_file(model.state_dict(), tmp_path / "weights" / "tiny.safetensors")
    write_image(tmp_path / "Set12" / "camera.png", sample_image("camera")[:48, :48])
    row = {
        "name": "tiny", "network": "dncnn_s", "arguments": {"depth": 3, "width": 8}, "weights": "tiny.safetensors",
        "protocol": "set12_sigma25_kair", "metric": "psnr_float_rgb", "reference": 1.0, "origin": "nobody",
        "gt": "Set12", "images": 1,
    }  # fmt: skip
    config = {"title": "a table", "data": "images", "rows": [row, row | {"name": "absent", "weights": "other.pth"}]}
    table = restoration(config, tmp_path)
    assert float(str(table.rows[0][3])) > 10
    assert "no weights/other.pth" in str(table.rows[1][-1])
    with pytest.raises(WithinError, match="None of the 1 rows"):
        restoration(config | {"rows": config["rows"][1:]}, tmp_path)
    with pytest.raises(WithinError, match="wieghts"):
        table_rows({"rows": [row | {"wieghts": "x"}]})


def test_a_table_on_real_weights(data):
    """Would catch a table that does not run from end to end on the published files."""
    table = run_table("super_resolution", data("lowlevel").parent)
    found = {row[0]: row for row in table.rows}
    assert abs(float(str(found["IMDN x4, Set5"][4]))) < 0.02
