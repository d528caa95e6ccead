"""The traced graph: operators, values, channel groups and the table of operator rules."""

from within.core.graph.channel_groups import ChannelGroup, Member
from within.core.graph.graph import Graph, Unsupported
from within.core.graph.operator import Operator
from within.core.graph.trace import trace

__all__ = ["ChannelGroup", "Graph", "Member", "Operator", "Unsupported", "trace"]
