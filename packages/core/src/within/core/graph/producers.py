"""Which layers produce a channel group, and the activations on which its gates sit."""

from __future__ import annotations

from within.core.graph.channel_groups import ChannelGroup, Member
from within.core.graph.graph import Graph

OUTPUT_AXIS = {
    "conv1d": 0,
    "conv2d": 0,
    "conv3d": 0,
    "linear": 0,
    "conv_transpose1d": 1,
    "conv_transpose2d": 1,
    "conv_transpose3d": 1,
    "embedding": 1,
}
NORMALISATIONS = {"batch_norm", "instance_norm"}


def producing_axes(graph: Graph) -> dict[tuple[str, int], str]:
    """Returns (parameter, axis) of every weight axis that produces channels, with the operator that uses it last."""
    found = {}
    for op in graph.operators:
        axis = OUTPUT_AXIS.get(op.kind)
        if axis is not None and op["weight"].name in graph.parameters:
            found[graph.parameters[op["weight"].name], axis] = op.name
    return found


def producers(graph: Graph, group: ChannelGroup) -> list[Member]:
    """Returns the weight axes that produce the group's channels (any parameter axis when none is a standard layer)."""
    known = producing_axes(graph)
    found = [member for member in group.parameters if (member.tensor, member.axis) in known]
    return found or [member for member in group.parameters if member.axis == 0] or list(group.parameters)


def producing_values(graph: Graph, group: ChannelGroup) -> list[Member]:
    """Returns the activations right after the group's producers, or after the normalisation that follows one."""
    kinds = {op.name: op for op in graph.operators}
    members = {member.tensor: member for member in group.activations}
    chosen: dict[str, Member] = {}
    for name, member in members.items():
        op = kinds.get(name)
        if (
            op is None
            or op.kind not in OUTPUT_AXIS
            or member.axis != (1 if op.kind.startswith("conv") else len(op.shape) - 1)
        ):
            continue
        users = [user.name for user in op.node.users]
        after = [user for user in users if user in kinds and kinds[user].kind in NORMALISATIONS and user in members]
        target = after[0] if len(users) == 1 and after else name
        chosen[target] = members[target]
    return list(chosen.values()) or list(group.activations)[:1]
