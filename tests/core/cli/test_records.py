"""Commands that look at the installation or at records: doctor, methods, bench, demo, report, reproduce, calibrate."""

from __future__ import annotations

import json
from pathlib import Path

from tests.core.cli.process import only_object, within

from within.core.cli import main
from within.core.cli.methods import CORE, FOLDERS, all_methods
from within.core.quantize.calibrators import CALIBRATORS


def test_doctor_names_the_command_for_a_missing_extra(capfd):
    """Would catch an extra that is said to be missing and not how to get it, and a problem that ends in exit code 0."""
    code = main(["doctor", "--json"])
    record = only_object(capfd.readouterr().out)
    assert code == int(bool(record["problems"]))
    assert record["versions"]["torch"]
    assert record["machine"]["usable cores"] >= 1
    assert "onnxruntime" in record["runtimes"]
    assert record["extras"]["within-core[openvino]"]["install"] == 'pip install "within-core[openvino]"'


def test_methods_are_read_from_their_files():
    """Would catch a kind of method whose folder moved, so that its list silently became empty."""
    found = all_methods()
    for folder in FOLDERS:
        assert [method for method in found if method.kind == folder.kind], folder
    for method in found:
        assert method.summary
        if method.kind != "domain":
            assert method.name in (CORE.parents[1] / method.file).read_text() or method.kind == "calibrator"
    assert {method.name for method in found if method.kind == "calibrator"} == set(CALIBRATORS)
    assert "lowlevel" in {method.name for method in found if method.kind == "domain"}


def test_bench_prints_its_json_last_and_fails_with_its_threshold(tmp_path, monkeypatch, capfd):
    """Would catch a table after the object, a missed threshold that ends in exit code 0, a whole study not stored."""
    for name, passed in (("good", True), ("bad", False)):
        (tmp_path / f"{name}.py").write_text(
            "from within.core.bench import BenchResult\n"
            f"def run(full=False):\n    print('noise')\n"
            f"    return BenchResult({name!r}, {passed}, {{'full': full}}, ('a', 'b'), [(1, 2.5)])\n"
        )
    monkeypatch.setattr("within.core.bench.benchmark_folder", lambda: tmp_path)
    monkeypatch.setattr("within.core.cli.bench.benchmark_folder", lambda: tmp_path)
    assert main(["bench", "good", "--full"]) == 0
    last = capfd.readouterr().out.splitlines()[-1]
    assert json.loads(last) == {"bench": "good", "passed": True, "figures": {"full": True}}
    stored = json.loads((tmp_path / "results" / "good.json").read_text())
    assert stored["figures"] == {"full": True}
    assert stored["provenance"]["machine"]
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
