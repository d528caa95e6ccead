"""mmengine's Runner without its side effects: quiet, no forced process start method, no global leftovers.

Each override says what the original does that a library must not do.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import nn

from within.core.train.adapter import trained_model
from within.core.train.checkpoint import read_checkpoint, write_checkpoint
from within.core.train.launch import Launch, share_gradients


class QuietRunner(Runner):
    """The Runner that `fit` builds.

    Arguments:
        launched: device and processes.
        settings: what defines the run; stored in checkpoints and compared on resume.
        arguments: mmengine's own arguments.
    """

    def __init__(self, *, launched: Launch, settings: Mapping[str, Any], **arguments: Any) -> None:
        self.launched, self.settings = launched, dict(settings)
        super().__init__(**arguments)
        self._distributed = launched.distributed

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Only learns who it is. The original forces `fork`, caps OpenCV's threads and raises the file limit."""
        self._rank, self._world_size = self.launched.rank, self.launched.world_size
        self._timestamp = time.strftime("%Y%m%d_%H%M%S")

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None, **kwargs: Any) -> MMLogger:
        """Logs to the file in full and to the terminal errors only. The original prints all on standard output."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.ERROR)
                handler.setStream(sys.stderr)
            # A log that cannot be written must not flood the terminal; a full disk is reported by the checkpoint.
            handler.handleError = _ignore
        return logger

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        """Moves to the chosen device. The original takes CUDA where it is, and rewrites SyncBatchNorm layers."""
        return share_gradients(model.to(self.launched.device), self.launched)

    def _init_model_weights(self) -> None:
        """Does nothing. The original calls the network's `init_weights` and so wipes out trained weights."""

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """Does nothing. The original starts compilers to ask for their versions."""

    def dump_config(self) -> None:
        """Does nothing: the run directory already holds the configuration."""

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, meta: Any = None, **kwargs: Any) -> None:
        """Writes all that a run needs to go on as if it had never stopped; on the first process only."""
        if self.rank != 0:
            return
        model = trained_model(self.model)
        state = {
            "meta": {**(meta or {}), "seed": self.seed, "settings": self.settings},
            "state_dict": dict(model.state_dict()),
            "optimizer": cast(OptimWrapper, self.optim_wrapper).state_dict(),
            "param_schedulers": [scheduler.state_dict() for scheduler in self.param_schedulers or ()],
            # mmengine asks for this entry on resume; see the workaround in checkpoint.py
            "message_hub": {"log_scalars": {}, "runtime_info": {}, "resumed_keys": {}},
        }
        self.call_hook("before_save_checkpoint", checkpoint=state)
        write_checkpoint(Path(out_dir) / filename, state, model)

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Loads strictly and with clear errors. The original ignores keys that do not fit."""
        model = trained_model(self.model)
        state = read_checkpoint(Path(filename), self.settings, model)
        self.call_hook("after_load_checkpoint", checkpoint=state)
        model.load_state_dict(state["state_dict"])
        self._has_loaded = True
        return state

    def release(self) -> None:
        """Closes the log files and removes what mmengine registers globally under the name of the experiment."""
        for log in (*self.logger.handlers, self.visualizer):
            with suppress(OSError):  # on a full disk closing fails too, and would hide the error that says so
                log.close()
        for manager in (MMLogger, MessageHub, Visualizer, DefaultScope):
            manager._instance_dict.pop(self.experiment_name, None)


def _ignore(record: logging.LogRecord) -> None:
    """Lets a log record go."""
