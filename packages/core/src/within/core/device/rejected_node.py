"""Which node of an ONNX file a runtime means when it refuses the file, as far as its message tells.

Runtimes name a node by its name, by an output of it (with suffixes that their own optimisation added), or only by the
type of its operator. In that order the message is searched; a type that several nodes have names the first.
"""

from __future__ import annotations

import re
from pathlib import Path

import onnx

SUFFIX = re.compile(r"(_nchwc|_nhwc|_quant|_fused|_token_\d+)+$")
QUOTED = re.compile(r"""[('"]([^('")]+)[)'"]""")


def rejected_node(path: str | Path, message: str) -> str | None:
    """Returns a node in words, as in `conv_7 (Conv, makes y)`; None where the message names none of the file.

    Arguments:
        path: the file; one that is no ONNX names none.
        message: of the runtime.
    """
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception:  # whatever a damaged file makes of protobuf
        return None
    quoted = {SUFFIX.sub("", text.strip()) for text in QUOTED.findall(message)}
    for node in graph.node:
        if node.name and SUFFIX.sub("", node.name) in quoted:
            return _in_words(node)
    for node in graph.node:
        if any(output in quoted for output in node.output):
            return _in_words(node)
    words = set(re.findall(r"\w+", message))
    known = {node.op_type for node in graph.node if not node.domain}
    for node in sorted(graph.node, key=lambda node: not node.domain):  # an operator of another domain is the rarer one
        if node.op_type in words and (node.domain or len(known & words) == 1):
            return _in_words(node)
    return None


def _in_words(node: onnx.NodeProto) -> str:
    kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"{node.name or 'without a name'} ({kind}, makes {', '.join(node.output)})"
