"""What the README and the documentation show works as it is written there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from torch import nn

from within.core.cli import main
from within.core.cli.application import COMMANDS
from within.core.cli.quantization import QuantizationJob
from within.core.cli.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def blocks(path: str, language: str = "python") -> list[str]:
    """Returns the fenced code blocks of a page."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / path).read_text(), flags=re.DOTALL)


class Restorer(nn.Module):
    """A network with a body to cut and a head to protect, as the README's example expects."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, 48, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(48, 3, 3, padding=1)

    def forward(self, x):
        return self.head(self.body(x))


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
    """Would catch a public name or argument that changed and was left as it was in the README."""
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("README.md")
    names = {"build": Restorer}
    exec(example, names)
    achieved = names["result"].certificate.achieved
    assert len(achieved) == 2
    assert all(each.met for each in achieved)
    assert names["slim"].head.weight.shape[0] == 3


def test_the_first_model_of_getting_started_compresses(tmp_path, monkeypatch, capfd):
    """Would catch a configuration key that the documentation shows and the command refuses."""
    monkeypatch.chdir(tmp_path)
    network, config = blocks("docs/getting-started.md")
    Path("mynet.py").write_text(network)
    Path("half.py").write_text(config + "runtime = None\n")
    assert main(["trace", "mynet:build", "--input", "1x3x256x256", "--set", "width=48"]) == 0
    assert main(["compress", "half.py"]) == 0
    assert main(["report", "runs/half"]) == 0
    assert "broken" not in capfd.readouterr().out


def test_every_command_and_key_is_documented():
    """Would catch a command, or a key of a configuration, that the page on the command line does not know."""
    page = (ROOT / "docs" / "command-line.md").read_text()
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2].replace("_", "-")
        assert f"### `within {name}" in page
    for key in {**Settings.__dataclass_fields__, **QuantizationJob.__dataclass_fields__}:
        assert f"`{key}`" in page


def test_pages_name_only_files_that_exist():
    """Would catch a page that points at code which moved."""
    core = ROOT / "packages" / "core" / "src"
    for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        for path in re.findall(r"`(within/core/[\w/]+(?:\.py)?/?)`", page.read_text()):
            assert (core / path).exists(), f"{page.name}: {path}"


def test_documentation_builds_without_a_warning(tmp_path):
    """Would catch a dead link, or a page that the navigation names and nobody wrote."""
    configuration = pytest.importorskip("mkdocs.config", reason="mkdocs is not installed; it comes with [docs]")
    build = pytest.importorskip("mkdocs.commands.build")
    config = configuration.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True)
    build.build(config)
    assert (tmp_path / "index.html").is_file()
    for page in tmp_path.rglob("*.html"):
        assert not re.search(r'(?:src|href)="(?:https?:)?//(?!www\.mkdocs\.org)', page.read_text()), page
