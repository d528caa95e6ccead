"""`within doctor`: what is installed, what is missing and how to get it, and what this machine can do."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from within.core.cli.output import Json, console, print_json, standard_output_for_json
from within.core.errors import WithinError
from within.core.report.provenance import cpu_flags, cpu_name, usable_cores, versions

DISTRIBUTIONS = (
    "within-core",
    "within-nas",
    "within-lowlevel",
    "within-diffusion",
    "within-perception3d",
    "within-video",
    "within-segmentation",
)
LIBRARIES = ("torch", "numpy", "scipy", "onnx", "onnxscript", "onnxruntime", "openvino", "mmengine", "safetensors")
LOADS = "loads"
CONFLICTS = {
    "onnxruntime-gpu": "it overwrites the files of onnxruntime: pip uninstall onnxruntime-gpu",
    "onnxruntime-openvino": "it overwrites the files of onnxruntime: pip uninstall onnxruntime-openvino",
    "highspy": "it cannot be loaded in one process with ortools: pip uninstall highspy",
}


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("doctor", epilog="Example: within doctor --json")(doctor)


def doctor(as_json: Json = False) -> None:
    """Show versions, extras, runtimes, processor features and threads, and whatever is wrong with them."""
    with standard_output_for_json(as_json):
        record = examine()
    if as_json:
        print_json(record)
    else:
        _show(record)
    if record["problems"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """Returns what `doctor` shows."""
    runtimes = {name: state for name, _, state in _runtimes()}
    commands = _commands()
    problems = [f"the runtime {name} does not load: {state}" for name, broken, state in _runtimes() if broken]
    problems.extend(f"{name} is installed; {why}" for name, why in CONFLICTS.items() if versions((name,)))
    problems.extend(state for state in commands.values() if state != LOADS)
    return {
        "versions": {"python": platform.python_version(), **versions((*DISTRIBUTIONS, *LIBRARIES))},
        "machine": _machine(),
        "runtimes": runtimes,
        "commands": commands,
        "extras": extras(),
        "problems": problems,
    }


def extras() -> dict[str, dict[str, Any]]:
    """Returns each extra of the installed packages, what of it is missing, and the command that installs it."""
    from packaging.requirements import Requirement

    found: dict[str, dict[str, Any]] = {}
    for distribution in DISTRIBUTIONS:
        try:
            description = metadata.distribution(distribution)
        except metadata.PackageNotFoundError:
            continue
        needed = [Requirement(text) for text in description.requires or ()]
        for extra in description.metadata.get_all("Provides-Extra") or ():
            wanted = [each for each in needed if each.marker is not None and each.marker.evaluate({"extra": extra})]
            found[f"{distribution}[{extra}]"] = {
                "missing": [str(each).split(";")[0].strip() for each in wanted if not _satisfied(each)],
                "install": f'pip install "{distribution}[{extra}]"',
            }
    return found


def _satisfied(requirement: Any) -> bool:
    try:
        return bool(requirement.specifier.contains(metadata.version(requirement.name), prereleases=True))
    except metadata.PackageNotFoundError:
        return False


def _commands() -> dict[str, str]:
    from within.core.cli.application import domain_entry_points, load_domain

    states = {}
    for point in domain_entry_points():
        try:
            load_domain(point)
            states[point.name] = LOADS
        except WithinError as error:
            states[point.name] = error.what
    return states


def _machine() -> dict[str, Any]:
    import psutil
    import torch

    memory = psutil.virtual_memory()
    return {
        "system": platform.platform(),
        "processor": cpu_name(),
        "vector extensions": ", ".join(cpu_flags()),
        "usable cores": usable_cores(),
        "torch threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        "memory GiB": round(memory.total / 2**30, 1),
        "memory free GiB": round(memory.available / 2**30, 1),
        "WITHIN_DATA": os.environ.get("WITHIN_DATA", "not set"),
    }


def _runtimes() -> list[tuple[str, bool, str]]:
    """Returns the name of each runtime, whether it is installed and broken, and its version or what is wrong."""
    import torch

    from within.core.device.runtimes import runtime_statuses

    found = []
    for status in runtime_statuses():
        missing = status.reason.startswith("ModuleNotFoundError")
        state = status.version if status.available else "not installed" if missing else status.reason
        found.append((status.name, not status.available and not missing, state))
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found.append(("cuda", False, ", ".join(map(torch.cuda.get_device_name, range(count))) or "no device"))
    tensorrt = versions(("tensorrt",)).get("tensorrt", "not installed")
    found.append(("tensorrt", False, tensorrt))
    return found


def _show(record: dict[str, Any]) -> None:
    out = console()
    out.print(_two_columns("versions", record["versions"]))
    out.print(_two_columns("machine", record["machine"]))
    out.print(_two_columns("runtimes", record["runtimes"]))
    out.print(_two_columns("domain commands", record["commands"]))
    table = Table("extra", "state", "what to do", title="extras", title_justify="left")
    for name, extra in record["extras"].items():
        missing = ", ".join(extra["missing"])
        state, todo = (f"missing: {missing}", extra["install"]) if missing else ("present", "")
        table.add_row(escape(name), escape(state), escape(todo))
    out.print(table)
    for problem in record["problems"]:
        out.print(f"[bold red]problem:[/bold red] {escape(problem)}")
    if not record["problems"]:
        out.print("No problem found.")


def _two_columns(title: str, facts: dict[str, Any]) -> Table:
    table = Table(show_header=False, title=title, title_justify="left")
    for name, value in facts.items():
        table.add_row(name, escape(str(value)))
    return table
