"""Jobs: rankings and searches through the command line, resumed, reported again, refused when they make no sense."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from within.core.cli.application import main as command
from within.core.errors import WithinError
from within.nas import rank, search_job
from within.nas.evaluations import Evaluations
from within.nas.report import main as report
from within.nas.spaces import nasbench201
from within.nas.spaces.nasbench201 import SPACE
from within.nas.tables.nasbench201_table import EDGE_COLUMNS


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A small table whose accuracies are made up, in the format of the real one."""
    path = tmp_path_factory.mktemp("table") / "table.parquet"
    generator = np.random.default_rng(0)
    cells = list(dict.fromkeys(SPACE.random(generator) for _ in range(400)))
    macs = np.array([nasbench201.macs(cell) / 1e6 for cell in cells])
    columns = dict(zip(EDGE_COLUMNS, np.array(cells).T, strict=True))
    columns["arch_idx"] = np.arange(len(cells))
    columns["accuracy"] = 50 + macs / 6 + generator.normal(size=len(cells))
    columns["latency"] = macs / 20 + generator.normal(size=len(cells)) * 0.1
    columns["constant"] = np.ones(len(cells))
    columns["holes"] = np.where(generator.random(len(cells)) < 0.3, np.nan, macs)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.fixture
def ranking(table):
    return {
        "table": "nasbench201", "path": str(table), "label": "accuracy", "shares": [0.2, 1.0], "seeds": [0, 1],
        "workers": 1, "split": {"column": "arch_idx", "below": 200},
        "learners": [
            {"encoder": "gates", "epochs": 10, "widths": [32]}, {"baseline": "ridge", "cheap_labels": ["holes"]},
            {"name": "DELE", "encoder": "lstm", "epochs": 5, "cheap_epochs": 5, "widths": [],
             "cheap_labels": ["holes", "latency"]},
        ],
    }  # fmt: skip


@pytest.fixture
def searching(table):
    return {
        "table": "nasbench201", "path": str(table), "objective": "accuracy", "queries": 40, "seeds": [0, 1],
        "workers": 1, "limits": [{"cost": "latency", "most": 5.0}, {"cost": "params", "most": 9e5}],
        "further": {"latency": -1},
        "methods": [
            {"kind": "random"}, {"kind": "nsga2", "population": 10},
            {"kind": "predictor", "learner": {"baseline": "ridge"}, "start": 10, "each": 5, "prior": ["holes"]},
        ],
    }  # fmt: skip


def written(path, config):
    path.write_text("\n".join(f"{name} = {value!r}" for name, value in config.items()))
    return path


def test_a_ranking_is_a_command(ranking, tmp_path, capsys):
    config, run = written(tmp_path / "config.py", ranking), tmp_path / "run"
    assert command(["nas", "rank", str(config), "--run", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    taus = found["metrics"]["tables"][0]["rows"]
    assert [row[0] for row in taus] == ["gates", "ridge on genes with 1 cheap label", "DELE"]
    assert float(taus[1][2].split()[0]) > 0.7  # MACs are nearly the accuracy here
    assert {"report.html", "metrics.json", "config.py", "plots", "scores"} <= {each.name for each in run.iterdir()}
    assert (run / "plots" / "tau.svg").stat().st_size > 1000
    before = (run / "results.jsonl").read_text()
    assert command(["nas", "rank", str(config), "--run", str(run), "--json"]) == 2  # it holds files
    capsys.readouterr()
    assert command(["nas", "rank", str(config), "--run", str(run), "--resume", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["metrics"]["tables"] == found["metrics"]["tables"]
    assert (run / "results.jsonl").read_text() == before
    ranking["learners"][0]["epochs"] = 1  # another learner: nothing of the old one stands for it
    changed = rank.main(ranking, run_directory=run, resume=True)[1].tables[0].rows
    assert changed[0] != tuple(found["metrics"]["tables"][0]["rows"][0])
    assert changed[1:] == tuple(map(tuple, found["metrics"]["tables"][0]["rows"][1:]))
    (run / "report.html").unlink()
    assert report(run)[1].tables[0].rows == changed
    assert (run / "report.html").is_file()


def test_a_search_is_a_command(searching, tmp_path, capsys):
    config, run = written(tmp_path / "config.py", searching), tmp_path / "run"
    assert command(["nas", "search", str(config), "--run", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    assert [row["held"] for row in found["budgets"]] == [True, True]
    assert [row[0] for row in found["tables"][0]["rows"]] == ["random", "nsga2", "ridge on genes, random"]
    assert found["tables"][1]["title"] == "Pareto front of all searches"
    assert sorted(each.name for each in (run / "evaluations").glob("*.sqlite")) == [
        f"{method}-{seed}.sqlite" for method in range(3) for seed in range(2)
    ]
    content = report(run)[1]
    assert content.tables[0].rows == tuple(map(tuple, found["tables"][0]["rows"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "acuracy"}, "no column 'acuracy'"),
        ({"label": "constant"}, "All labels 'constant' are 1"),
        ({"label": "holes"}, "labels 'holes' are NaN"),
        ({"split": {"column": "arch_idx", "below": 1}}, "There are 1 architectures to learn from"),
        ({"shares": [0.0]}, "share of 0"),
        ({"shares": [1.0, 0.005]}, "A share of 0.005 of 200 architectures leaves 1 to learn from"),
        ({"learners": []}, "nothing to learn with"),
        ({"learners": [{"encoder": "gates", "epoch": 3}]}, "no setting 'epoch'.*epochs"),
        ({"learners": [{"baseline": "ridge"}, {"baseline": "ridge"}]}, "Two learners are called"),
        ({"learners": [{"baseline": "ridge", "cheap_labels": ["zero"]}]}, "no column 'zero'"),
        ({"table": "nasbench202"}, "no table 'nasbench202'"),
    ],
)
def test_rankings_that_cannot_be(ranking, tmp_path, change, message):
    with pytest.raises(WithinError, match=message):
        rank.main({**ranking, **change}, run_directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limits": [{"cost": "latency", "most": 0.01}]}, "No architecture of the table meets latency <= 0.01"),
        ({"limits": [{"cost": "params", "most": 10}]}, "meets params <= 10: the least is"),
        ({"limits": [{"cost": "energy", "most": 10}]}, "no column 'energy'"),
        ({"objective": "holes"}, "labels 'holes' are NaN"),
        ({"methods": [{"kind": "grid"}]}, "no method 'grid'"),
        ({"methods": [{"kind": "predictor"}]}, "A learner goes with the method predictor"),
        ({"methods": [{"kind": "random", "population": 0}]}, "population is 0"),
        ({"queries": 0}, "nothing to do"),
        ({"table": None, "path": None}, "Nothing says what is searched"),
        ({"further": {"latency": -2}}, "neither 1 nor -1"),
    ],
)
def test_searches_that_cannot_be(searching, tmp_path, change, message):
    with pytest.raises(WithinError, match=message):
        search_job.main({**searching, **change}, run_directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


OWN = """
    import os, time

    def evaluate(architecture, folder, pause=0.0):
        time.sleep(pause)
        with open(os.path.join(folder, "calls"), "a") as file:
            file.write(f"{list(architecture)}\\n")
        return {"accuracy": float(sum(architecture)), "latency": float(architecture[0])}
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_evaluation.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    return {
        "space": "nasbench201", "evaluate": "own_evaluation:evaluate", "evaluate_arguments": {"folder": str(tmp_path)},
        "objective": "accuracy", "queries": 24, "workers": 1, "limits": [{"cost": "latency", "most": 2}],
        "methods": [{"kind": "predictor", "learner": {"baseline": "ridge"}, "start": 12, "each": 6}],
    }  # fmt: skip


def calls(folder):
    return Path(folder, "calls").read_text().splitlines()


def test_an_own_function_evaluates(own, tmp_path):
    _, content = search_job.main(own, run_directory=tmp_path / "run")
    assert len(calls(tmp_path)) == len(set(calls(tmp_path))) == 24
    assert content.budgets[0].held
    with pytest.raises(WithinError, match=r"gave energy = None.*return finite numbers for accuracy, energy"):
        search_job.main({**own, "limits": [{"cost": "energy", "most": 2}]}, run_directory=tmp_path / "other")


def test_a_search_that_was_killed_goes_on(own, tmp_path):
    """Killed with signal 9 in the midst of evaluations in two processes; what was finished is not evaluated again."""
    config = written(
        tmp_path / "config.py", {**own, "workers": 2, "evaluate_arguments": {"folder": str(tmp_path), "pause": 0.3}}
    )
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "within.core.cli", "nas", "search", str(config), "--run", str(run)],
        start_new_session=True,
    )
    file = run / "evaluations" / "0-0.sqlite"
    ends = time.monotonic() + 120
    while time.monotonic() < ends and not ((tmp_path / "calls").is_file() and len(calls(tmp_path)) >= 5):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = calls(tmp_path)
    what = search_job._jobs(search_job.search_settings(eval_config(config), "test"), run)[0].what
    with Evaluations(file, what) as store:
        kept = [architecture for architecture, _ in store]
    assert 3 <= len(kept) <= len(before) < 24
    search_job.main(config, run_directory=run, resume=True)
    again = calls(tmp_path)[len(before) :]
    assert not {str(list(each)) for each in kept} & set(again)
    with Evaluations(file, what) as store:
        assert len(store) == 24


def eval_config(path):
    from within.core.cli.configuration import load_config

    return load_config(path).to_dict()
