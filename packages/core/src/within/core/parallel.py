"""One function over many items: in a process pool by default, on Ray when an address is given, resumable from a file.

    losses = parallel.map(evaluate, candidates, workers=8, results="runs/search/losses.jsonl")

With `results`, every finished item is one line on the disk at once; the same call skips what is there. An item that
fails does not stop the others, and a worker that dies (out of memory, a crash in native code) costs only its own item.
"""

from __future__ import annotations

import functools
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from within.core.errors import WithinError, missing_extra
from within.core.progress import track
from within.core.results_file import ResultsFile, item_key

Item = TypeVar("Item")
Result = TypeVar("Result")

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Failure:
    """An item whose function raised or whose worker died: its index, a short text of it, the error, the traceback."""

    index: int
    item: str
    error: str
    traceback: str


class ItemsFailed(WithinError):  # noqa: N818 (as every user error, it is a WithinError)
    """Some items failed. `failures` says which and why; `results` maps the indices of the others to their results."""

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        todo: str | None = None,
        failures: Sequence[Failure] = (),
        results: dict[int, Any] | None = None,
    ) -> None:
        super().__init__(what, where=where, todo=todo)
        self.failures, self.results = tuple(failures), dict(results or {})


@dataclass(frozen=True)
class _Outcome:
    """What comes back from a worker; exceptions travel as text, because not every exception survives pickling."""

    index: int
    value: Any = None
    error: str | None = None
    traceback: str = ""


def map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    ray: str | None = None,
    results: str | Path | None = None,
    description: str = "Working",
    key: Callable[[Item], str] | None = None,
    fail_fast: bool = False,
    finished: Callable[[Item, Any], None] | None = None,
) -> list[Result]:
    """Returns `[function(item) for item in items]`, in the order of the items, computed in parallel.

    Workers are fresh processes (spawned, so a script needs `if __name__ == "__main__":`), each with one thread for
    PyTorch and BLAS.

    Arguments:
        function: can be pickled: a function of a module, or a `functools.partial` of one. Ray takes any.
        items: can be pickled.
        workers: processes; all processors of this machine (with Ray: of the cluster) by default. 1 works here, in this
            process.
        ray: `"local"` starts Ray on this machine, `"auto"` joins the cluster that it finds, anything else is an address
            such as `"ray://head:10001"`.
        results: a JSON-lines file; what it holds is not computed again, what is new is appended. Results then come back
            in their JSON form on the first run too. The file stands for one function and one setting of it.
        description: the label of the progress bar.
        key: what identifies an item in `results`; its JSON form by default. Items of equal keys are computed once.
        fail_fast: stop at the first item that fails. By default the others finish first.
        finished: is called here with each item that was computed and its result, as soon as it is there.

    Raises:
        ItemsFailed: when the function raised on some item or its process died.
        WithinError: when the function cannot be sent to a process, a worker cannot start, Ray is not installed, or the
            results file cannot be used.
        KeyboardInterrupt: on Ctrl-C; workers are stopped, and finished results are in the file.
    """
    tasks = list(items)
    if workers is not None and workers < 1:
        raise WithinError(f"There must be at least one worker, not {workers}", where="workers")
    keys = (
        [item_key(item, key) for item in tasks] if results is not None else [str(index) for index in range(len(tasks))]
    )
    outputs: dict[str, Any] = {}
    failures: list[Failure] = []
    with ResultsFile(results, _name(function)) if results is not None else nullcontext() as file:
        if file is not None:
            outputs.update({name: file.finished[name] for name in set(keys) & set(file.finished)})
        first: dict[str, int] = {}
        for index, name in enumerate(keys):
            if name not in outputs:
                first.setdefault(name, index)
        waiting = [(index, tasks[index]) for index in first.values()]
        if ray is not None and waiting:
            outcomes = _on_ray(function, waiting, workers, ray)
        elif workers == 1 or not waiting:
            outcomes = (_guarded(function, index, item) for index, item in waiting)
        else:
            outcomes = _in_processes(function, waiting, workers or processors())
        try:
            for outcome in track(outcomes, description, len(waiting)):
                index, error, trace = outcome.index, outcome.error, outcome.traceback
                if error is None:
                    try:
                        outputs[keys[index]] = (
                            outcome.value if file is None else file.append(keys[index], outcome.value)
                        )
                    except (TypeError, ValueError) as reason:
                        error = f"The result cannot be written as JSON: {reason}"
                if error is None and finished is not None:
                    finished(tasks[index], outputs[keys[index]])
                if error is not None:
                    failures.append(Failure(index, repr(tasks[index])[:200], error, trace))
                    if fail_fast:
                        break
        finally:
            outcomes.close()
    if failures:
        done = {index: outputs[name] for index, name in enumerate(keys) if name in outputs}
        raise _failed(sorted(failures, key=lambda failure: failure.index), done, len(tasks), results)
    return [outputs[name] for name in keys]


def _guarded(function: Callable[[Any], Any], index: int, item: Any) -> _Outcome:
    try:
        return _Outcome(index, function(item))
    except (Exception, SystemExit) as error:
        return _Outcome(index, error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())


def _in_processes(
    function: Callable[[Any], Any], waiting: list[tuple[int, Any]], workers: int
) -> Generator[_Outcome, None, None]:
    try:
        pickle.dumps(function)
    except Exception as error:
        raise WithinError(
            f"The function cannot be sent to another process ({error})",
            where=_name(function),
            todo="define it at the top level of a module, or pass workers=1",
        ) from error
    queue, alive = waiting[::-1], False
    while queue:
        lost: list[tuple[int, Any]] = []
        for outcome in _one_pool(function, queue, min(workers, len(queue)), lost):
            alive = True
            yield outcome
        # A process died. Nobody knows which of the items in flight was to blame, so each runs once more, alone.
        for task in lost:
            again: list[tuple[int, Any]] = []
            yield from _one_pool(function, [task], 1, again)
            alive = alive or not again
            if again:
                yield _Outcome(task[0], error="the worker process died (out of memory, or a crash in native code)")
        if lost and not alive:
            raise WithinError(
                "No worker process survived its first items",
                where=_name(function),
                todo='guard the script with if __name__ == "__main__": or pass workers=1 to see the error',
            )


def _one_pool(
    function: Callable[[Any], Any], queue: list[tuple[int, Any]], workers: int, lost: list[tuple[int, Any]]
) -> Generator[_Outcome, None, None]:
    """Works off `queue` from its end; when a process dies, what was in flight goes to `lost` and the rest stays."""
    executor = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_ignore_interrupts)
    flying: dict[Future[_Outcome], tuple[int, Any]] = {}
    processes: list[Any] = []
    try:
        while queue or flying:
            while queue and len(flying) < 2 * workers:
                with _environment(ONE_THREAD):  # a process takes its environment from here when it starts
                    flying[executor.submit(_guarded, function, *queue[-1])] = queue[-1]
                queue.pop()
            processes = list((executor._processes or {}).values())
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                outcome = _outcome(future, flying[future][0])
                del flying[future]
                yield outcome
        executor.shutdown()
    except BrokenProcessPool:
        executor.shutdown(cancel_futures=True)
        for future, task in flying.items():
            if future.exception() is None:
                yield future.result()
            else:
                lost.append(task)
    except BaseException:  # Ctrl-C, an early stop or a full disk: do not wait for what nobody will read
        for process in processes:
            process.terminate()
        executor.shutdown(cancel_futures=True)
        raise


def _outcome(future: Future[_Outcome], index: int) -> _Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        raise
    except Exception as error:  # the item or its result could not be pickled
        return _Outcome(index, error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())


def _ignore_interrupts() -> None:
    """Runs first in each process: the parent alone answers Ctrl-C, and stops the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _on_ray(
    function: Callable[[Any], Any], waiting: list[tuple[int, Any]], workers: int | None, address: str
) -> Generator[_Outcome, None, None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray as cluster
    except Exception as error:
        raise missing_extra("within-core", "ray", error) from error
    joined = cluster.is_initialized()
    if not joined:
        options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
        if address == "local":
            options |= {
                "include_dashboard": False,
                "object_store_memory": 200 << 20,
                "num_cpus": workers or processors(),
            }
        try:
            with _environment({"PYTHONPATH": os.pathsep.join(sys.path)} if address == "local" else {}):
                cluster.init(**options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise WithinError(
                f"Ray could not be reached: {error}", where=f"ray={address!r}", todo='check the address, or ray="local"'
            ) from error
    window = workers or 2 * int(cluster.cluster_resources().get("CPU", 1))
    remote = cluster.remote(num_cpus=1, max_retries=1)(_guarded)
    flying: dict[Any, int] = {}
    try:
        shared = cluster.put(function)
        queue = waiting[::-1]
        while queue or flying:
            while queue and len(flying) < window:
                index, item = queue.pop()
                flying[remote.remote(shared, index, item)] = index
            for reference in cluster.wait(list(flying), num_returns=1)[0]:
                index = flying.pop(reference)
                try:
                    yield cluster.get(reference)
                except cluster.exceptions.RayError as error:  # the worker died or the node went away
                    yield _Outcome(index, error=f"{type(error).__name__}: {error}")
    finally:
        for reference in flying:
            cluster.cancel(reference, force=True)
        if not joined:
            cluster.shutdown()


def processors() -> int:
    """Returns how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _name(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', type(function).__module__)}.{name}"


def _failed(failures: list[Failure], done: dict[int, Any], count: int, results: str | Path | None) -> ItemsFailed:
    first = failures[0]
    return ItemsFailed(
        f"{len(failures)} of {count} items failed, the first with {first.error}",
        where=f"item {first.index}: {first.item}",
        todo=f"mend the cause and run again; what is finished is in {results}" if results is not None else None,
        failures=failures,
        results=done,
    )
