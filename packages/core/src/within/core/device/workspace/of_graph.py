"""The workspace of the operators of a traced graph, for the peak-memory cost."""

from __future__ import annotations

from collections.abc import Callable, Collection

from within.core.device.workspace.operator_key import operator_key
from within.core.device.workspace.table import Definition, WorkspaceTable, packaged_workspace_table
from within.core.graph.operator import Operator, Shape


def graph_workspace(
    table: WorkspaceTable | None = None, definition: Definition = "rss", *, counted: Collection[str] = ()
) -> Callable[[Operator, Callable[[str], Shape]], int]:
    """Returns a function that gives the workspace of an operator, in bytes, at the shapes of a decision.

    The memory format is that of the trace: trace the model and its input in channels_last for the figures of a
    channels_last run.

    Arguments:
        table: by default the packaged one, for PyTorch on a CPU.
        definition: `rss` for memory that is touched, `alloc` for what the allocator hands out.
        counted: kinds of operators whose inner tensors the caller counts as live already (`max_pool`: its indices).
    """
    chosen = packaged_workspace_table() if table is None else table

    def workspace(operator: Operator, shape: Callable[[str], Shape]) -> int:
        key = operator_key(operator.node, shape)
        return 0 if key is None or key.kind in counted else chosen.lookup(key, definition).bytes

    return workspace
