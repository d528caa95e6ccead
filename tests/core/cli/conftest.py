"""Fixtures of the command-line tests: plugins that go wrong in every way, networks, and a configuration."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PLUGIN = """
import sys, time
import typer
from within.core.errors import WithinError
app = typer.Typer(help="Commands for tests.")

@app.command()
def fail():
    raise WithinError("The widget\\nis bent", where="widget.toml, line 3", todo="straighten it")

@app.command()
def crash():
    raise ZeroDivisionError("by zero")

@app.command()
def wait():
    print("ready", file=sys.stderr, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def plugins(tmp_path) -> Path:
    """Returns a folder for PYTHONPATH with a distribution that adds a good, a broken and a wrong command."""
    information = tmp_path / "pretend-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: pretend\nVersion: 1.0\nSummary: Pretends\n")
    (information / "entry_points.txt").write_text(
        "[within.commands]\npretend = pretend:app\nbroken = pretend_broken:app\nwrong = pretend_wrong:app\n"
        "[within.demos]\npretend = pretend_demo:demo\n"
    )
    (tmp_path / "pretend.py").write_text(PLUGIN)
    (tmp_path / "pretend_broken.py").write_text("raise RuntimeError('library of another planet')")
    (tmp_path / "pretend_wrong.py").write_text("app = 3")
    (tmp_path / "pretend_demo.py").write_text(
        "from within.core.report import ReportContent, CostRow\n"
        "def demo(folder):\n"
        "    print('noise')\n"
        "    return ReportContent('Pretended', costs=(CostRow('MACs', 'MAC', 4e9, 2e9),))\n"
    )
    return tmp_path


NETWORKS = """
import torch
from torch import nn

def small(width=8):
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 3, 3, padding=1))

class Strange(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        return self.second(torch.fft.fft2(self.first(x)).real)

class Branching(nn.Module):
    def forward(self, x):
        if x.sum() > 0:  # the line that the error must name
            return x
        return -x
"""


@pytest.fixture
def networks(tmp_path, monkeypatch) -> Path:
    """Returns the current folder, new, which holds `networks_for_cli.py`."""
    (tmp_path / "networks_for_cli.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("networks_for_cli", None)
    return tmp_path


CONFIG = """
model = dict(factory="networks_for_cli:small", arguments=dict(width=16))
inputs = [(1, 3, 16, 16)]
budgets = [dict(cost="Macs", fraction=0.5, convention="output_size")]
runtime = None
"""


@pytest.fixture
def configure(networks):
    """Returns a function that writes `half.py`: the configuration above with lines changed or added."""

    def write(*lines: str) -> str:
        (networks / "half.py").write_text(CONFIG + "\n".join(lines) + "\n")
        return "half.py"

    return write
