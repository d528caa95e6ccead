"""`parallel.map`: order, resuming, failures, crashes, Ctrl-C, Ray."""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from within.core import parallel
from within.core.errors import WithinError
from within.core.parallel import ItemsFailed

FUNCTIONS = """
    import os, sys, time
    from pathlib import Path

    def square(x):
        return x * x

    def pair(x):
        return (x, [x])

    def odd_fails(x):
        if x % 2:
            raise ValueError(f"{x} is odd")
        return x

    class Unpicklable(Exception):
        def __init__(self, a, b):
            super().__init__(a + b)

    def raises_unpicklable(x):
        raise Unpicklable("two ", "arguments")

    def three_dies(x):
        if x == 3:
            os._exit(9)
        return x

    def threads(x):
        import torch
        return os.environ["OMP_NUM_THREADS"], torch.get_num_threads()

    def count_calls(item):
        name, folder = item
        with open(Path(folder) / "calls", "a") as calls:
            calls.write(name + "\\n")
        return len(name)

    def slow(x):
        time.sleep(0.2)
        return x

    if __name__ == "__main__":
        from within.core import parallel
        print("ready", flush=True)
        parallel.map(slow, range(200), workers=2, results=sys.argv[1])
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module on the path, as spawned processes and Ray need it."""
    (tmp_path / "parallel_functions.py").write_text(textwrap.dedent(FUNCTIONS))
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("parallel_functions", None)
    return importlib.import_module("parallel_functions")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(functions: ModuleType, workers: int) -> None:
    assert parallel.map(functions.square, range(20), workers=workers) == [x * x for x in range(20)]


def test_no_items_need_no_process(functions: ModuleType) -> None:
    assert parallel.map(functions.square, []) == []


def test_workers_have_one_thread_and_the_parent_keeps_its_environment(
    functions: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert parallel.map(functions.threads, [0, 1], workers=2) == [("1", 1), ("1", 1)]
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_one_failing_item_is_named_and_the_others_finish(functions: ModuleType, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    with pytest.raises(ItemsFailed) as caught:
        parallel.map(functions.odd_fails, [0, 1, 2, 3, 4], workers=2, results=results)
    assert [failure.index for failure in caught.value.failures] == [1, 3]
    assert "1 is odd" in str(caught.value)
    assert "odd_fails" in caught.value.failures[0].traceback
    assert caught.value.results == {0: 0, 2: 2, 4: 4}
    assert len(results.read_text().splitlines()) == 4, "a header and three results; failures are tried again next time"


def test_fail_fast_leaves_later_items_alone(functions: ModuleType) -> None:
    with pytest.raises(ItemsFailed) as caught:
        parallel.map(functions.odd_fails, [0, 1, 2, 3], workers=1, fail_fast=True)
    assert caught.value.results == {0: 0}
    assert multiprocessing.active_children() == []


def test_an_exception_that_cannot_be_unpickled_breaks_nothing(functions: ModuleType) -> None:
    with pytest.raises(ItemsFailed, match="two arguments"):
        parallel.map(functions.raises_unpicklable, [0, 1], workers=2)


def test_a_worker_that_dies_costs_only_its_own_item(functions: ModuleType) -> None:
    with pytest.raises(ItemsFailed, match="process died") as caught:
        parallel.map(functions.three_dies, range(8), workers=2)
    assert [failure.index for failure in caught.value.failures] == [3]
    assert caught.value.results == {x: x for x in range(8) if x != 3}


def test_a_function_without_a_module_is_refused_with_the_way_out() -> None:
    with pytest.raises(WithinError, match="top level"):
        parallel.map(lambda x: x, [1, 2], workers=2)


def test_the_error_survives_pickling(functions: ModuleType) -> None:
    with pytest.raises(ItemsFailed) as caught:
        parallel.map(functions.odd_fails, [1], workers=1)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert copy.failures == caught.value.failures
    assert str(copy) == str(caught.value)


def test_finished_items_are_not_computed_again(functions: ModuleType, tmp_path: Path) -> None:
    results = tmp_path / "deep" / "results.jsonl"
    items = [("a", str(tmp_path)), ("bb", str(tmp_path))]
    assert parallel.map(functions.count_calls, items, workers=1, results=results) == [1, 2]
    more = [("ccc", str(tmp_path)), *items, items[0]]
    assert parallel.map(functions.count_calls, more, workers=1, results=results) == [3, 1, 2, 1]
    assert (tmp_path / "calls").read_text().split() == ["a", "bb", "ccc"]


def test_results_are_in_json_form_on_the_first_run_too(functions: ModuleType, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    first = parallel.map(functions.pair, [1, 2], workers=1, results=results)
    assert first == parallel.map(functions.pair, [1, 2], workers=1, results=results) == [[1, [1]], [2, [2]]]


def test_own_keys_identify_items(functions: ModuleType, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    assert parallel.map(functions.square, [1 + 0j, 2 + 0j], workers=1, results=None) == [1, 4]
    with pytest.raises(WithinError, match="key="):
        parallel.map(functions.square, [1 + 0j], workers=1, results=results)
    assert parallel.map(functions.square, [3, 4], workers=1, results=results, key=lambda x: f"n{x}") == [9, 16]
    assert {json.loads(line).get("key") for line in results.read_text().splitlines()[1:]} == {"n3", "n4"}


def test_a_file_torn_at_any_byte_is_repaired(functions: ModuleType, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    parallel.map(functions.square, range(3), workers=1, results=results)
    whole = results.read_bytes()
    for length in range(len(whole)):
        results.write_bytes(whole[:length])
        assert parallel.map(functions.square, range(3), workers=1, results=results) == [0, 1, 4]
        assert results.read_bytes() == whole
    results.write_bytes(whole[:-3] + b"\x00\xff\n")
    assert parallel.map(functions.square, range(3), workers=1, results=results) == [0, 1, 4]


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b'{"key": "0", "value": 7}\n'])
def test_a_foreign_file_is_refused_and_left_alone(functions: ModuleType, tmp_path: Path, content: bytes) -> None:
    results = tmp_path / "notes.txt"
    results.write_bytes(content)
    with pytest.raises(WithinError, match="no results file"):
        parallel.map(functions.square, range(3), workers=1, results=results)
    assert results.read_bytes() == content


def test_a_damaged_line_in_the_middle_is_reported_with_its_number(functions: ModuleType, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    parallel.map(functions.square, range(3), workers=1, results=results)
    lines = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(lines[0] + b"garbage\n" + lines[2])
    with pytest.raises(WithinError, match="line 2"):
        parallel.map(functions.square, range(3), workers=1, results=results)


def test_results_of_another_function_are_refused(functions: ModuleType, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    parallel.map(functions.square, [2], workers=1, results=results)
    with pytest.raises(WithinError, match=r"belong to 'parallel_functions.square'"):
        parallel.map(functions.slow, [2], workers=1, results=results)


def test_two_runs_cannot_write_one_file(functions: ModuleType, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    with parallel.ResultsFile(results, "f"), pytest.raises(WithinError, match="Another run"):
        parallel.map(functions.square, [2], workers=1, results=results)


def test_a_full_disk_is_a_clear_error(functions: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("within.core.results_file.os.write", full)
    with pytest.raises(WithinError, match="No space left"):
        parallel.map(functions.square, [2], workers=1, results=tmp_path / "results.jsonl")


def test_a_result_without_json_form_fails_its_item_only(functions: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ItemsFailed, match="JSON"):
        parallel.map(complex, [1], workers=1, results=tmp_path / "results.jsonl")


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_keeps_its_results_and_resumes(
    functions: ModuleType, tmp_path: Path, kill: signal.Signals
) -> None:
    """Ctrl-C stops all workers at once; after either signal the file is whole but for a torn last line."""
    results = tmp_path / "results.jsonl"
    run = subprocess.Popen(
        [sys.executable, functions.__file__, str(results)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job would ignore it
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not results.exists() or results.read_bytes().count(b"\n") < 4):
        time.sleep(0.05)
    os.killpg(run.pid, kill)
    run.communicate(timeout=30)
    assert run.returncode != 0
    finished = results.read_bytes().count(b"\n") - 1
    assert 3 <= finished < 200
    deadline = time.monotonic() + 10
    while _alive(run.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _alive(run.pid) == [], "workers outlive the run"
    lines = results.read_bytes().splitlines()[1 : finished + 1]
    results.write_bytes(results.read_bytes().replace(b"__main__.slow", b"parallel_functions.slow"))
    done = [json.loads(line)["value"] for line in lines]
    assert parallel.map(functions.slow, done, workers=1, results=results) == done
    assert results.read_bytes().count(b"\n") - 1 == finished, "finished items were computed again"


def _alive(group: int) -> list[psutil.Process]:
    """The running processes of a process group; nobody may reap the dead ones in a container."""
    alive = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_is_an_error(functions: ModuleType, workers: int) -> None:
    with pytest.raises(WithinError, match="at least one worker"):
        parallel.map(functions.square, [1], workers=workers)


def test_ray_that_runs_already(functions: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray gives what the process pool gives: order, failures, resuming; and a dead worker costs only its item."""
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ray.init(include_dashboard=False, object_store_memory=200 << 20, num_cpus=2, log_to_driver=False)
    try:
        results = tmp_path / "results.jsonl"
        assert parallel.map(functions.square, range(5), ray="local", results=results) == [0, 1, 4, 9, 16]
        assert parallel.map(functions.square, range(5), ray="local", results=results) == [0, 1, 4, 9, 16]
        assert parallel.map(lambda x: x + 1, range(3), ray="local") == [1, 2, 3]
        with pytest.raises(ItemsFailed, match="1 is odd") as caught:
            parallel.map(functions.odd_fails, range(4), ray="local")
        assert [failure.index for failure in caught.value.failures] == [1, 3]
        with pytest.raises(ItemsFailed) as caught:
            parallel.map(functions.three_dies, range(5), ray="local")
        assert [failure.index for failure in caught.value.failures] == [3]
        assert ray.is_initialized(), "a cluster that was there before is left running"
    finally:
        ray.shutdown()


def test_ray_starts_and_stops_by_itself(functions: ModuleType) -> None:
    ray = pytest.importorskip("ray")
    assert parallel.map(functions.square, range(3), ray="local", workers=2) == [0, 1, 4]
    assert not ray.is_initialized()
