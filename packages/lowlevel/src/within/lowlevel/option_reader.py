"""Reads the YAML of an option file key by key, with the line of each, against the table of known keys."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from within.core.errors import WithinError
from within.lowlevel.option_keys import COMPONENTS, IGNORED, SUPPORTED, UNSUPPORTED, Convert


@dataclass(frozen=True)
class Component:
    """A `type` with its arguments: a network, an optimiser, a schedule, a loss.

    Attributes:
        type: as in the file, for example `EDSR` or `AdamW`.
        arguments: the other keys.
        where: file and line, for errors of what builds it.
    """

    type: str
    arguments: Mapping[str, Any]
    where: str


def read_keys(path: str | Path) -> OptionKeys:
    """Reads a file into values by full path; faults are collected, not raised.

    Raises:
        WithinError: when the file is missing or no YAML map.
    """
    loader = yaml.SafeLoader(_text(path))
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise WithinError("The option file is not a map of keys", where=str(path))
        keys = OptionKeys(loader, str(path))
        keys.read(node)
        return keys
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise WithinError(
            f"The option file is not valid YAML: {getattr(error, 'problem', error)}", where=f"{path}{line}"
        ) from error
    finally:
        loader.dispose()


class OptionKeys:
    """The keys of one file.

    Attributes:
        values: converted values and components, by full path (`datasets.train.gt_size`).
        lines: the line of every key, by full path.
        ignored: keys without effect, as (path, line, reason).
    """

    def __init__(self, loader: yaml.SafeLoader, file: str) -> None:
        self.file = file
        self.values: dict[str, Any] = {}
        self.lines: dict[str, int] = {}
        self.ignored: list[tuple[str, int, str]] = []
        self._loader = loader
        self._faults: list[tuple[int, str]] = []

    def children(self, section: str) -> list[str]:
        """Returns the keys directly under a section, in the order of the file."""
        depth = section.count(".") + 1
        found = [path for path in self.lines if path.startswith(f"{section}.") and path.count(".") == depth]
        return [path.rsplit(".", 1)[1] for path in found]

    def under(self, section: str) -> dict[str, Any]:
        """Returns the values under a section, by the rest of their path."""
        start = section + "."
        return {path.removeprefix(start): value for path, value in self.values.items() if path.startswith(start)}

    def require(self, path: str) -> None:
        """Notes a fault when there is no value and none was noted for it."""
        if path not in self.values and not any(f"`{path}" in fault for _, fault in self._faults):
            self.fault(self.lines.get(path.rpartition(".")[0], 1), f"`{path}` is missing")

    def fault(self, line: int, what: str) -> None:
        """Notes a fault."""
        self._faults.append((line, what))

    def raise_faults(self) -> None:
        """Raises one error that lists every fault by line.

        Raises:
            WithinError: when there is any.
        """
        if self._faults:
            listed = "; ".join(f"line {line}: {fault}" for line, fault in sorted(self._faults))
            count = "a fault" if len(self._faults) == 1 else f"{len(self._faults)} faults"
            raise WithinError(
                f"The option file has {count}: {listed}", where=self.file, todo="correct or remove these keys"
            )

    def read(self, node: yaml.MappingNode, prefix: str = "") -> None:
        """Reads a map whose path is `prefix`, and all below it."""
        for key_node, value_node in self._pairs(node, prefix):
            self._key(_join(prefix, str(key_node.value)), key_node, value_node)

    def _pairs(self, node: yaml.MappingNode, prefix: str) -> list[tuple[yaml.Node, yaml.Node]]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen:
                self._fault(key_node, f"`{_join(prefix, key)}` comes twice")
            seen.add(key)
        self._loader.flatten_mapping(node)  # YAML's `<<`
        return list(node.value)

    def _key(self, path: str, key_node: yaml.Node, node: yaml.Node) -> None:
        pattern = _pattern(path)
        self.lines[path] = line = key_node.start_mark.line + 1
        value = self._loader.construct_object(node, deep=True) if not isinstance(node, yaml.MappingNode) else node
        if pattern in IGNORED:
            self.ignored.append((path, line, IGNORED[pattern]))
        elif value is None and (pattern in (*SUPPORTED, *COMPONENTS, *UNSUPPORTED) or _is_section(pattern)):
            pass  # `key: ~` is as good as no key
        elif pattern in UNSUPPORTED:
            if value is not False:
                self._fault(key_node, f"`{path}` is not supported ({UNSUPPORTED[pattern]})")
        elif pattern in COMPONENTS:
            self._component(path, COMPONENTS[pattern], node)
        elif pattern in SUPPORTED:
            try:
                self.values[path] = SUPPORTED[pattern](value)
            except ValueError as error:
                self._fault(node, f"`{path}` is {value!r}; {error}")
        elif not _is_section(pattern):
            self._fault(key_node, f"`{path}` is not a known key{_suggestion(pattern)}")
        elif isinstance(node, yaml.MappingNode):
            self.read(node, path)
        else:
            self._fault(node, f"`{path}` must be a map of keys")

    def _component(self, path: str, types: Mapping[str, Mapping[str, Convert]] | None, node: yaml.Node) -> None:
        if not isinstance(node, yaml.MappingNode):
            self._fault(node, f"`{path}` must be a map with a `type`")
            return
        lines = {str(key.value): key for key, _ in self._pairs(node, path)}
        arguments = self._loader.construct_mapping(node, deep=True)
        kind = arguments.pop("type", None)
        if not isinstance(kind, str) or (types is not None and kind not in types):
            known = "" if types is None else f"; known are {', '.join(types)}"
            self._fault(lines.get("type", node), f"`{path}.type` is {kind!r}, which is not supported{known}")
            return
        if types is not None:
            for key in list(arguments):
                convert = types[kind].get(key)
                if convert is None:
                    self._fault(lines[key], f"`{path}.{key}` is not an argument of {kind}")
                    continue
                try:
                    arguments[key] = convert(arguments[key])
                except ValueError as error:
                    self._fault(lines[key], f"`{path}.{key}` is {arguments[key]!r}; {error}")
        self.values[path] = Component(kind, arguments, f"{self.file}, line {node.start_mark.line + 1}")

    def _fault(self, node: yaml.Node, fault: str) -> None:
        self.fault(node.start_mark.line + 1, fault)


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise WithinError(f"Could not read the option file: {error.strerror or error}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise WithinError("The option file is not text", where=str(path)) from error


def _join(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key


def _pattern(path: str) -> str:
    """Returns the path with the names that the user chose replaced by `*`."""
    return re.sub(r"^(datasets|val\.metrics)\.[^.]+", r"\1.*", path)


def _is_section(pattern: str) -> bool:
    return any(known.startswith(pattern + ".") for known in (*SUPPORTED, *COMPONENTS, *IGNORED))


def _suggestion(pattern: str) -> str:
    close = difflib.get_close_matches(pattern, [*SUPPORTED, *COMPONENTS], n=1, cutoff=0.8)
    return f" (did you mean `{close[0]}`?)" if close else ""
