"""`within methods`: every importance, cost, solver, runtime, calibrator, ..., with one line on it and its file.

The list is read from the source text, not kept by hand and not imported: a method is a public name of its folder, its
line is the first of its docstring, and adding a file there adds it here.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from within.core.cli.output import Json, console, print_json
from within.core.errors import WithinError

CORE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Folder:
    """Where the methods of one kind live.

    Attributes:
        kind: what they are called.
        path: the folder or file under `within/core`.
        recognise: tells a method from the other public names there, given its definition.
        registry: instead, the dictionary in the folder's `__init__.py` that lists the methods, one file each.
    """

    kind: str
    path: str
    recognise: Callable[[ast.stmt], bool] = lambda node: False
    registry: str | None = None


@dataclass(frozen=True)
class Method:
    """A method: its kind, its name in Python, one line on it, and its file relative to the package."""

    kind: str
    name: str
    summary: str
    file: str


def returns(*kinds: str) -> Callable[[ast.stmt], bool]:
    """Recognises public functions by the type that they return."""

    def recognise(node: ast.stmt) -> bool:
        if not isinstance(node, ast.FunctionDef) or node.returns is None:
            return False
        return ast.unparse(node.returns).strip("'\"") in kinds

    return recognise


def has_method(name: str) -> Callable[[ast.stmt], bool]:
    """Recognises concrete classes by a method that they have."""

    def recognise(node: ast.stmt) -> bool:
        if not isinstance(node, ast.ClassDef) or "Protocol" in {ast.unparse(each) for each in node.bases}:
            return False
        return any(isinstance(each, ast.FunctionDef) and each.name == name for each in node.body)

    return recognise


def named(*names: str) -> Callable[[ast.stmt], bool]:
    """Recognises functions and classes by name, where nothing else tells a method from its parts."""
    return lambda node: isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in names


FOLDERS = (
    Folder("importance", "pruning/importance", returns("dict[str, NDArray[np.float64]]")),
    Folder("cost", "cost", has_method("__call__")),
    Folder("solver", "solve", returns("Solution", "Widths", "Step", "Allocation")),
    Folder("runtime", "device/runtimes.py", has_method("load")),
    Folder("distillation", "distill", has_method("watch")),
    Folder("codebook", "quantize/codebook.py", returns("Codebook")),
    Folder("scale", "quantize/optimal_scale.py", named("optimal_scale")),
    Folder("scale", "quantize/alternating_scale.py", named("alternating_scale")),
    Folder("calibrator", "quantize/calibrators", registry="CALIBRATORS"),
    Folder("quantiser", "quantize/fake_quantize.py", has_method("forward")),
    Folder("mixed precision", "quantize/mixed_precision.py", returns("BitAllocation")),
    Folder("mixed precision", "quantize/haq.py", returns("BitAllocation")),
    Folder("low-bit training", "quantize/mls", named("to_low_bit")),
    Folder("sparsity", "sparse", named("brain_surgeon", "magnitude_masks")),
    Folder("storage", "packing", named("pack", "share_weights")),
)
DOMAIN = "domain"
Kind = Annotated[str | None, typer.Argument(metavar="KIND", help="Only these: importance, cost, solver, runtime, ...")]


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("methods", epilog="Example: within methods cost")(methods)


def methods(kind: Kind = None, as_json: Json = False) -> None:
    """List the methods: importances, costs, solvers, runtimes, calibrators, sparsity, ..., and domain packages."""
    found = all_methods()
    kinds = list(dict.fromkeys(method.kind for method in found))
    if kind is not None:
        if kind not in kinds:
            raise WithinError(f"There is no kind of method named {kind!r}", todo=f"choose one of: {', '.join(kinds)}")
        found = [method for method in found if method.kind == kind]
    if as_json:
        print_json({"methods": [asdict(method) for method in found]})
        return
    table = Table("kind", "name", "what it is", "file")
    previous = None
    for method in found:
        if previous not in (None, method.kind):
            table.add_section()
        table.add_row(method.kind if method.kind != previous else "", method.name, method.summary, method.file)
        previous = method.kind
    console().print(table)


def all_methods() -> list[Method]:
    """Returns every method, in the order of `FOLDERS`, domains last."""
    found = [method for folder in FOLDERS for method in _methods_in(folder)]
    return [*found, *_domains()]


def _methods_in(folder: Folder) -> list[Method]:
    place = CORE / folder.path
    if folder.registry is not None:
        return _registered(folder.kind, place, folder.registry)
    files = sorted(place.glob("*.py")) if place.is_dir() else [place] if place.is_file() else []
    public = _imported_by(place / "__init__.py") if place.is_dir() else None
    found = []
    for file in files:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or not folder.recognise(node):
                continue
            if node.name in public if public is not None else not node.name.startswith("_"):
                summary = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                found.append(Method(folder.kind, node.name, summary, str(file.relative_to(CORE.parents[1]))))
    return sorted(found, key=lambda method: method.name)


def _registered(kind: str, place: Path, registry: str) -> list[Method]:
    tree = ast.parse((place / "__init__.py").read_text(encoding="utf-8"))
    files = {name.name: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names}
    found = []
    for node in tree.body:
        if (
            isinstance(node, ast.AnnAssign)
            and ast.unparse(node.target) == registry
            and isinstance(node.value, ast.Dict)
        ):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                module = str(files[ast.unparse(value)]).rpartition(".")[2]
                file = place / f"{module}.py"
                summary = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
                name = str(ast.literal_eval(key)) if key is not None else module
                found.append(Method(kind, name, " ".join(summary.split()), str(file.relative_to(CORE.parents[1]))))
    return found


def _imported_by(init: Path) -> set[str] | None:
    """Returns the names that a package imports for its users; None when it has no `__init__.py`."""
    if not init.is_file():
        return None
    tree = ast.parse(init.read_text(encoding="utf-8"))
    return {name.name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names}


def _domains() -> list[Method]:
    found = []
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"] or ""
        if name.startswith("within-") and name != "within-core":
            module = name.removeprefix("within-").replace("-", "_")
            found.append(Method(DOMAIN, module, distribution.metadata["Summary"] or "", f"within/{module}"))
    return sorted(set(found), key=lambda method: method.name)
