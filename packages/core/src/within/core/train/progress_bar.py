"""A progress bar on a terminal, with the latest loss; nothing elsewhere."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from within.core.progress import bar


class ProgressHook(Hook):
    """A progress bar on a terminal, with the latest loss."""

    priority = "LOWEST"

    def __init__(self, description: str) -> None:
        self.description = description
        self._display: Any = None

    def before_train(self, runner: Any) -> None:
        """Shows the bar where the run stands."""
        self._display = bar()
        self._display.start()
        self._task = self._display.add_task(self.description, total=runner.max_iters, completed=runner.iter)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advances the bar."""
        if not self._display.disable:
            loss = f"{self.description} · loss {float(outputs['loss']):.4g}"
            self._display.update(self._task, advance=1, description=loss)

    def close(self) -> None:
        """Removes the bar, also after an error."""
        if self._display is not None:
            self._display.stop()
