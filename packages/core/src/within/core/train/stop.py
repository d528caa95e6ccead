"""Ctrl-C and SIGTERM end a run between two steps, after a checkpoint, so that resuming loses nothing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.hooks import Hook

from within.core.errors import WithinError
from within.core.train.checkpoint import AtomicCheckpointHook
from within.core.train.launch import Launch, any_process

# Between processes the wish to stop is exchanged only so often, because it costs a message.
_STOP_INTERVAL = 10


class TrainingStoppedError(WithinError):
    """The user or the scheduler stopped the run; it can be resumed."""


class StopRequest:
    """Whether the user or the scheduler asked the run to stop."""

    def __init__(self) -> None:
        self.made = False


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turns the first Ctrl-C or SIGTERM into a request, so that a step is never cut in half; a second one is obeyed."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may handle signals
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: Any) -> None:
        request.made = True
        for old, handler in previous.items():
            signal.signal(old, handler)

    for number in previous:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class StopHook(Hook):
    """Ends the run between two steps when it is asked to, and saves a checkpoint first.

    Arguments:
        request: the request.
        checkpoint: the hook that saves, or None where nothing is saved.
        launched: the processes, which must agree on the step.
    """

    priority = "LOWEST"  # after schedule, average and record have taken the step into account

    def __init__(self, request: StopRequest, checkpoint: AtomicCheckpointHook | None, launched: Launch) -> None:
        self.request, self.checkpoint, self.launched = request, checkpoint, launched
        self.stopped_at: int | None = None

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stops here if asked to; the last iteration ends by itself."""
        iteration = runner.iter + 1
        if iteration == runner.max_iters or (self.launched.distributed and iteration % _STOP_INTERVAL):
            return
        if any_process(self.request.made, self.launched):
            self.stopped_at = iteration
            runner.train_loop.stop_training = True
            if self.checkpoint is not None:
                self.checkpoint.save(runner, iteration)
