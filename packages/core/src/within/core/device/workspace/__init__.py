"""What operators need beyond their inputs and outputs, measured on a backend and kept as a table."""

from within.core.device.workspace.calibrate import calibrate_workspace, default_keys
from within.core.device.workspace.of_graph import graph_workspace
from within.core.device.workspace.operator_key import OperatorKey, operator_key
from within.core.device.workspace.table import (
    Workspace,
    WorkspaceTable,
    host_description,
    load_workspace_table,
    packaged_workspace_table,
)

__all__ = [
    "OperatorKey",
    "Workspace",
    "WorkspaceTable",
    "calibrate_workspace",
    "default_keys",
    "graph_workspace",
    "host_description",
    "load_workspace_table",
    "operator_key",
    "packaged_workspace_table",
]
