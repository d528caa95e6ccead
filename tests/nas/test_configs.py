"""Every configuration of the package is understood, names what exists, and published tables run on small ones."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from within.core.bench import benchmark_folder
from within.core.cli.application import main as command
from within.core.cli.configuration import load_config
from within.core.cli.reproduce import run_table, tables
from within.core.errors import WithinError
from within.nas import published
from within.nas.encoders.named import make_encoder
from within.nas.rank_settings import rank_settings
from within.nas.search_job import problem
from within.nas.search_settings import search_settings
from within.nas.spaces import nasbench101
from within.nas.tables import tfrecord
from within.nas.tables.named import TABLES
from within.nas.tables.nasbench101_metrics import Evaluation, write_metrics

CONFIGS = Path(published.__file__).parents[3] / "configs"
TABLE_NAMES = [name for name, path in tables().items() if "within.nas" in str(load_config(path).get("run"))]


@pytest.mark.parametrize("name", sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.py")))
def test_configurations_are_understood(name):
    config = load_config(CONFIGS / name).to_dict()
    settings = (rank_settings if name.startswith("rank") else search_settings)(config, name)
    assert settings.table is None or settings.table in TABLES
    space = settings.table or settings.space
    learners = settings.learners if name.startswith("rank") else [each.learner for each in settings.methods]
    for each in learners:
        if each is not None and each.encoder is not None:
            make_encoder(each.encoder, space, **each.encoder_options)
        if each is not None and each.published:
            assert len(each.published) == len(settings.shares)


@pytest.mark.parametrize("name", sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.py")))
def test_configurations_fit_the_real_tables(name, data):
    config = load_config(CONFIGS / name).to_dict()
    path = data("nas") / Path(config.get("path", "-")).name
    if not path.is_file():
        pytest.skip("this table is not here")
    config["path"] = str(path)
    if name.startswith("rank"):
        rank_settings(config, name).read()
    else:
        problem(search_settings(config, name))


@pytest.mark.parametrize("name", TABLE_NAMES)
def test_published_tables_name_what_exists(name, tmp_path):
    config = load_config(tables()[name])
    assert (CONFIGS / config.config).is_file()
    with pytest.raises(WithinError, match="The table is not there"):
        run_table(name, tmp_path)


def test_nasbench101_from_the_official_file_to_the_published_table(tmp_path, monkeypatch, capsys):
    """A file as the official one, with 60 made-up networks, prepared by the command and ranked by published tables."""
    generator = np.random.default_rng(0)
    cells: dict[object, tuple[int, ...]] = {}
    while len(cells) < 60:
        cell = nasbench101.reduced(nasbench101.SPACE.random(generator))
        cells[nasbench101.canonical(cell)] = cell
    rows = []
    for number, cell in enumerate(cells.values()):
        matrix, operations = nasbench101.to_matrix(cell)
        kept = [0, *(vertex for vertex in range(1, 6) if matrix[vertex].any()), 6]
        names = ["input", *(nasbench101.OPERATIONS[operations[vertex - 1]] for vertex in kept[1:-1]), "output"]
        adjacency = "".join(map(str, matrix[np.ix_(kept, kept)].ravel()))
        stages = (
            Evaluation(),
            Evaluation(54.0, 1.0, 0.5, 0.5, 0.5),
            Evaluation(108.0, 2.0, 0.9, 0.8 + number / 400, 0.8),
        )
        message = base64.b64encode(write_metrics(1_000_000 + number, stages)).decode()
        rows.append([f"{number:032x}", 108, adjacency, ",".join(names), message])
    tfrecord.write_records(tmp_path / "nasbench_only108.tfrecord", [json.dumps(row).encode() for row in rows])
    (tmp_path / "nas").mkdir()
    target = tmp_path / "nas" / "nasbench101.parquet"
    assert (
        command(["nas", "prepare", "nasbench101", str(tmp_path / "nasbench_only108.tfrecord"), str(target), "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["architectures"] == 60
    monkeypatch.setattr(published, "RUNS", tmp_path / "runs")
    config = load_config(tables()["gates_nasbench101"])
    config.settings = {
        "shares": [0.5, 1.0], "seeds": [0], "workers": 1,
        "learners": [{"name": name.upper(), "encoder": name, "epochs": 2} for name in ("gates", "mlp")],
    }  # fmt: skip
    found = published.ranking(config, tmp_path)
    assert found.columns[1:] == ("0.5 of them (27)", "1 of them (54)")
    assert [row[0] for row in found.rows] == ["GATES", "MLP"]
    config = load_config(tables()["gates_search_nasbench101"])
    config.settings = {"queries": 12, "seeds": [0], "workers": 1, "methods": [{"kind": "random"}]}
    assert published.searching(config, tmp_path).rows[0][0] == "random"


def test_tables_are_listed():
    assert {"gates_nasbench101", "gates_losses_nasbench101", "gates_nasbench201", "dele_nasbench201",
            "dele_nasbench301", "gates_search_nasbench101"} == set(TABLE_NAMES)  # fmt: skip
    assert benchmark_folder().is_dir()


def test_spaces_are_listed(capsys):
    assert command(["nas", "spaces", "--json"]) == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)["spaces"]}
    assert found["nasbench201"]["combinations"] == 15_625
    assert all(each["params"] > 0 and each["macs"] > 0 for each in found.values())
