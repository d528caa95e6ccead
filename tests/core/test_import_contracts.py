"""Who may import whom: the contracts in pyproject.toml hold, and they would notice if they did not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="import-linter is not installed; it comes with the extra [dev]")

ROOT = Path(__file__).resolve().parents[2]
LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports({config!r}, no_cache=True))"


def lint(sources: Path) -> subprocess.CompletedProcess[str]:
    """Runs the contracts of the workspace on a folder that holds a whole `within`, and on nothing else.

    `-S` keeps the installed workspace out of the path; its namespace would be merged with the folder's.
    """
    search = os.pathsep.join([str(sources), sysconfig.get_path("purelib")])
    return subprocess.run(
        [sys.executable, "-S", "-c", LINT.format(config=str(ROOT / "pyproject.toml"))],
        env={**os.environ, "PYTHONPATH": search},
        cwd=sources,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def sources(tmp_path):
    """Returns a copy of the sources of all packages, merged into one namespace as they are when installed."""
    for package in (ROOT / "packages").glob("*/src/within/*/"):
        ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.json")
        shutil.copytree(package, tmp_path / "within" / package.name, ignore=ignored)
    return tmp_path


def test_contracts_hold(sources):
    """Would catch an import that crosses between domains, goes up a floor of core, or brings torch to the solvers."""
    result = lint(sources)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("lowlevel/crossing.py", "import within.nas"),
        ("nas/crossing.py", "from within.video import __doc__"),
        ("segmentation/crossing.py", "import within.perception3d"),
        ("video/crossing.py", "import within.diffusion"),
        ("core/crossing/__init__.py", ""),
        ("core/errors.py", "import within.lowlevel"),
        ("core/solve/crossing.py", "import torch"),
        ("core/solve/crossing.py", "import within.core.report"),
        ("core/train/crossing.py", "from within.core import cli"),
        ("core/distill/crossing.py", "def later():\n    import within.core.train"),
    ],
)
def test_contracts_notice(sources, file, line):
    """Would catch a contract that stays green because it names nothing that exists."""
    path = sources / "within" / file
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as handle:
        handle.write(f"\n{line}\n")
    result = lint(sources)
    broken = result.returncode != 0 and "BROKEN" in result.stdout
    assert broken == bool(line), result.stdout + result.stderr


def test_namespace_allows_video_and_diffusion_to_use_nas(sources):
    """Would catch a contract that forbids the two imports that the design allows."""
    for name in ("video", "diffusion"):
        (sources / "within" / name / "searching.py").write_text("import within.nas\nimport within.core\n")
    result = lint(sources)
    assert result.returncode == 0, result.stdout + result.stderr
