"""One operator of a traced graph, with its arguments by their schema names and concrete shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import fx

Shape = tuple[int, ...]


def concrete(size: Any) -> int:
    """Returns a size as an integer; a symbolic size by the value it had in the trace."""
    if isinstance(size, int):
        return size
    if isinstance(size, torch.SymInt):
        hint = size.node.hint
        return int(hint) if hint is not None else int(size)
    return int(size)


def tensor_of(node: fx.Node) -> torch.Tensor | None:
    """Returns the fake tensor that a node produces, or None."""
    value = node.meta.get("val")
    return value if isinstance(value, torch.Tensor) else None


def shape_of(node: fx.Node) -> Shape:
    """Returns the concrete shape of the tensor that a node produces."""
    tensor = tensor_of(node)
    if tensor is None:
        raise TypeError(f"{node.name} produces no tensor")
    return tuple(concrete(size) for size in tensor.shape)


def item_bytes(node: fx.Node) -> int:
    """Returns the bytes an element of the tensor that a node produces."""
    tensor = tensor_of(node)
    if tensor is None:
        raise TypeError(f"{node.name} produces no tensor")
    return tensor.element_size()


@cache
def short_kind(target: Any) -> str:
    """Returns the operator's name without namespace, overload and the underscore of in-place variants."""
    if isinstance(target, torch._ops.OpOverload):
        namespace, name = target._schema.name.split("::")
        if name.endswith("_") and not name.endswith("__") and target._schema.is_mutable:
            name = name[:-1]
        return name if namespace == "aten" else f"{namespace}.{name}"
    return str(getattr(target, "__name__", target))


@dataclass(frozen=True, eq=False)
class Operator:
    """An operator in execution order.

    Attributes:
        index: its position among the graph's operators.
        node: the fx node that it was read from.
        kind: its name without namespace, overload and in-place underscore, e.g. `conv2d`, `add`.
        module: qualified name of the innermost module that ran it ("" for the model itself).
        arguments: every argument by its schema name, defaults filled in; tensors are fx nodes.
    """

    index: int
    node: fx.Node
    kind: str
    module: str
    arguments: dict[str, Any]

    @property
    def name(self) -> str:
        """The operator's unique name in the graph."""
        return self.node.name

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    def get(self, argument: str, default: Any = None) -> Any:
        """Returns an argument, or `default` when the operator has none of that name."""
        return self.arguments.get(argument, default)

    @cached_property
    def in_place(self) -> bool:
        """Whether the operator writes into one of its inputs."""
        target = self.node.target
        return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable

    @cached_property
    def tensors(self) -> tuple[fx.Node, ...]:
        """The tensor inputs, in order, those inside lists included."""
        return tuple(node for node in flatten(list(self.arguments.values())) if tensor_of(node) is not None)

    @property
    def shape(self) -> Shape:
        """Shape of the output (of the first one, when there are several)."""
        return self.shapes[0]

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes of all tensor outputs."""
        value = self.node.meta.get("val")
        values = value if isinstance(value, (tuple, list)) else [value]
        return tuple(tuple(concrete(size) for size in item.shape) for item in values if isinstance(item, torch.Tensor))

    def axis(self, argument: str = "dim", *, of: str = "self") -> int:
        """Returns an axis argument, made non-negative for the rank of the tensor `of`."""
        return int(self[argument]) % max(1, len(shape_of(self[of])))

    @property
    def location(self) -> str:
        """The user's file and line, as far as the trace recorded it."""
        return source_line(self.node)


def flatten(value: Any) -> Iterator[fx.Node]:
    """Yields the fx nodes inside nested lists and tuples."""
    if isinstance(value, fx.Node):
        yield value
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from flatten(item)


def integer(value: Any) -> int:
    """Returns an integer argument, also when it is computed by a node of a symbolic trace."""
    if isinstance(value, fx.Node):
        return concrete(value.meta["val"])
    return int(value)


def source_line(node: fx.Node) -> str:
    """Returns `file:line` of the user's code that called a node, innermost frame outside torch, or ""."""
    lines = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines()]
    found = ""
    for line in lines:
        if line.startswith('File "'):
            path, _, rest = line[6:].partition('", line ')
            if "/torch/" not in path:
                found = f"{path}:{rest.split(',')[0]}"
    return found


def read_operators(graph: fx.Graph) -> tuple[Operator, ...]:
    """Reads the operators of an exported fx graph in execution order."""
    operators: list[Operator] = []
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        stack = node.meta.get("nn_module_stack") or {}
        module = next(reversed(stack.values()))[0] if stack else ""
        operators.append(Operator(len(operators), node, short_kind(node.target), module, _arguments(node)))
    return tuple(operators)


def _arguments(node: fx.Node) -> dict[str, Any]:
    if not isinstance(node.target, torch._ops.OpOverload):
        return {f"argument{position}": value for position, value in enumerate(node.args)} | dict(node.kwargs)
    defaults = _defaults(node.target)
    given = dict(zip(defaults, node.args, strict=False)) | node.kwargs
    return {name: given.get(name, default) for name, default in defaults.items()}


@cache
def _defaults(target: torch._ops.OpOverload) -> dict[str, Any]:
    """Returns all arguments in the order of the schema, with their default values (None where there is none)."""
    return {
        argument.name: argument.default_value if argument.has_default_value() else None
        for argument in target._schema.arguments
    }
