"""`within` in a process of its own, and the JSON object that it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def within(*arguments: str, search: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `within` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "within.core.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(search or ""), "COLUMNS": "100"},
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def only_object(output: str) -> dict:
    """Returns the one JSON object that the output must be."""
    assert output.endswith("\n")
    assert output.count("\n") == 1
    value = json.loads(output, parse_constant=pytest.fail)
    assert isinstance(value, dict)
    return value
