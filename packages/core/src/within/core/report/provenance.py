"""Where a run's numbers come from: command, date, seed, commit, machine and the versions of what computed them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from within.core.report.content import Provenance

REPORTED_PACKAGES = ("within-core", "torch", "numpy", "scipy", "onnx", "onnxruntime", "openvino", "mmengine")
REPORTED_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "sve")


def collect_provenance(seed: int | None = None, command: str | None = None) -> Provenance:
    """Returns the provenance of what this process computes.

    Arguments:
        seed: the seed of the run.
        command: what was run; by default this process' command line, with the program's folder left out.
    """
    if command is None:
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return Provenance(
        command=command,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        seed=seed,
        machine=machine(),
        commit=commit(),
        versions={"python": platform.python_version(), **versions(REPORTED_PACKAGES)},
    )


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Returns the version of each package that is installed."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Returns the processor, its cores and the vector instructions that decide which kernels run."""
    flags = ", ".join(cpu_flags()) or "no known vector extensions"
    return f"{cpu_name()}, {usable_cores()} cores ({flags})"


def cpu_name() -> str:
    """Returns the processor's name."""
    return _cpu_field("model name") or platform.processor() or platform.machine()


def cpu_flags() -> list[str]:
    """Returns those of `REPORTED_CPU_FLAGS` that the processor has."""
    present = set((_cpu_field("flags") or _cpu_field("Features")).split())
    return [flag for flag in REPORTED_CPU_FLAGS if flag in present]


def usable_cores() -> int:
    """Returns how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def commit() -> str:
    """Returns the commit of the workspace that this package runs from, marked when files differ; empty outside git."""
    roots = [parent for parent in Path(__file__).parents if (parent / "packages" / "core" / "pyproject.toml").is_file()]
    if not roots:
        return ""  # installed as a wheel: a repository around it would be another project's
    try:
        described = subprocess.run(
            ["git", "-C", str(roots[0]), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return described.stdout.strip() if described.returncode == 0 else ""


def _cpu_field(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
