"""The rules of TensorRT's DLA as data: which release has a DLA, what it runs, within which limits, and who says so.

The table is `dla_rules.json`. Every entry names its source, and whether it was read there ("verified") or is from
memory ("recalled").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from within.core.errors import WithinError
from within.core.files import read_json

Status = Literal["verified", "recalled"]
Version = tuple[int, int, int]
_LATEST_PATCH = 10**6


@dataclass(frozen=True)
class Rule:
    """One limit of one or several operators.

    Attributes:
        id: name of the rule, as in `convolution.kernel`.
        operators: ONNX operators that it holds for.
        check: the function of `dla_checks` that tests it.
        limits: what that function takes.
        todo: what to do about a layer that breaks it.
        source: where it is written.
        status: whether it was read there, or is from memory.
    """

    id: str
    operators: tuple[str, ...]
    check: str
    limits: Mapping[str, Any]
    todo: str
    source: str
    status: Status


@dataclass(frozen=True)
class DlaRules:
    """What one release of TensorRT lets a DLA run.

    Attributes:
        tensorrt: the release asked for.
        available: whether it has a DLA at all.
        explicit: whether precision comes from the types of the graph, instead of builder flags and a calibration cache.
        where: the machines, in words.
        operators: ONNX operators that it runs, within the rules.
        rules: limits of these operators.
        table: the whole table, for rules on shapes, channels and the graph.
    """

    tensorrt: str
    available: bool
    explicit: bool
    where: str
    operators: frozenset[str]
    rules: tuple[Rule, ...]
    table: Mapping[str, Any]

    def source(self, entry: Mapping[str, Any]) -> str:
        """Returns where an entry of the table is written, in full."""
        return str(self.table["sources"][entry["source"]])


def dla_rules(tensorrt: str) -> DlaRules:
    """Returns the rules of a release of TensorRT, given as "10.3" or "11.4.1".

    Raises:
        WithinError: when this is no version, or one that the table does not know.
    """
    table, version = _table(), parse_version(tensorrt)
    release = next((entry for entry in table["releases"] if _within(version, entry["first"], entry["last"])), None)
    if release is None:
        spans = ", ".join(f"{entry['first']} to {entry['last']}" for entry in table["releases"])
        raise WithinError(
            f"The rules of TensorRT {tensorrt} for DLA are not known",
            where="tensorrt",
            todo=f"give a release within {spans}",
        )
    rules = tuple(
        Rule(
            id=entry["id"],
            operators=tuple(entry["operators"]),
            check=entry["check"],
            limits=entry["limits"],
            todo=entry["todo"],
            source=table["sources"][entry["source"]],
            status=entry["status"],
        )
        for entry in table["rules"]
        if _within(version, entry["since"] or "0", entry["until"] or "999")
    )
    operators = frozenset(
        name for name, entry in table["operators"].items() if version >= parse_version(entry["since"])
    )
    return DlaRules(tensorrt, release["available"], release["explicit"], release["where"], operators, rules, table)


def channel_step(precision: str) -> int:
    """Returns the multiple that the channels of a tensor on DLA are padded to: 16 in FP16, 32 in INT8.

    Give it to the pruner as its step, `prune(..., step=channel_step("int8"))`: widths that are multiples waste nothing.

    Raises:
        WithinError: for any other precision.
    """
    channels = _table()["channels"]
    if precision not in channels:
        raise WithinError(
            f"DLA computes in {' or '.join(channels)}, not in {precision}",
            where="precision",
            todo=f"choose one of {', '.join(channels)}",
        )
    return int(channels[precision]["multiple"])


def parse_version(text: str) -> Version:
    """Returns a version as three numbers; missing ones are 0, a fourth is ignored.

    Raises:
        WithinError: when it is not one.
    """
    if not re.fullmatch(r"\d+(\.\d+){0,3}", text):
        raise WithinError(f"{text!r} is not a version of TensorRT", where="tensorrt", todo="give one as 10.3 or 11.4.1")
    numbers = [int(part) for part in text.split(".")]
    major, minor, patch = [*numbers, 0, 0][:3]
    return major, minor, patch


def _within(version: Version, first: str, last: str) -> bool:
    """A last version of two numbers holds all its patches."""
    end = parse_version(last)
    if last.count(".") < 2:
        end = (end[0], end[1], _LATEST_PATCH)
    return parse_version(first) <= version <= end


@cache
def _table() -> Mapping[str, Any]:
    with resources.as_file(resources.files("within.core.device") / "dla_rules.json") as path:
        table: Mapping[str, Any] = read_json(path)
    return table
