"""Cut an exported ONNX model down to other widths, without exporting it again.

To compare many widths of one network, its weights are sliced in the file and the sizes written into it are edited;
that takes a fraction of the seconds that an export does. Each result is verified against the module that the graph
rewrites to at these widths, and exported anew from that module where the two differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from within.core.device.export import export_onnx
from within.core.device.verify import verify
from within.core.errors import WithinError
from within.core.files import atomic_write
from within.core.graph import Graph
from within.core.graph.rewrite import Rewrite


def narrow_onnx(graph: Graph, dense: str | Path, widths: NDArray[np.int64], path: str | Path) -> Path:
    """Writes the model of a graph with the first `widths[g]` atoms of each group g.

    Arguments:
        graph: the traced dense model.
        dense: the file that `export_onnx` made of it, with fixed sizes (`dynamic=False`).
        widths: atoms kept in each group.
        path: the file to write.

    Raises:
        WithinError: when neither cutting nor exporting gives a model that computes the same as the rewritten graph.
    """
    masks = [np.arange(group.size) < width for group, width in zip(graph.channel_groups(), widths, strict=True)]
    rewrite = Rewrite(graph, masks)
    module = rewrite.module()
    module.eval()
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(_cut(graph, rewrite, dense).SerializeToString())
            verify(module, temporary, [graph.inputs])
    except WithinError:
        export_onnx(module, graph.inputs, path, dynamic=False)
    return Path(path)


def _cut(graph: Graph, rewrite: Rewrite, dense: str | Path) -> Any:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(dense))
    del model.graph.value_info[:]
    arrays = {initialiser.name: initialiser for initialiser in model.graph.initializer}
    kept = {name: _kept(rewrite, value) for value, name in graph.parameters.items() if name in arrays}
    for node in model.graph.node:  # the exporter folds batch normalisation into biases that the model does not have
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2 and node.input[1] in kept:
            kept.setdefault(node.input[2], {axis: at for axis, at in kept[node.input[1]].items() if axis == 0})
    for name, positions in kept.items():
        array = numpy_helper.to_array(arrays[name])
        for axis, at in positions.items():
            array = array.take(at, axis=axis)
        arrays[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
    cut_sizes = {group.size for group, mask in zip(graph.channel_groups(), rewrite.keep, strict=True) if not mask.all()}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in arrays:
            _regroup(node, tuple(arrays[node.input[1]].dims))
        elif node.op_type == "Reshape" and node.input[1] in arrays:
            sizes = numpy_helper.to_array(arrays[node.input[1]]).copy()
            cut_axes = [axis for axis, size in enumerate(sizes) if size in cut_sizes]
            if len(cut_axes) == 1 and -1 not in sizes:
                sizes[cut_axes] = -1
                arrays[node.input[1]].CopyFrom(numpy_helper.from_array(sizes, node.input[1]))
    return model


def _kept(rewrite: Rewrite, value: str) -> dict[int, NDArray[np.int64]]:
    """Returns the positions that stay of each axis of a parameter that gets shorter."""
    axes = rewrite.graph.axes.get(value, {})
    return {axis: index.kept(rewrite.keep) for axis, index in axes.items()}


def _regroup(node: Any, weight: tuple[int, ...]) -> None:
    """A depthwise convolution has as many groups as channels are left."""
    for attribute in node.attribute:
        if attribute.name == "group" and attribute.i > 1 and weight[1] == 1:
            attribute.i = weight[0]
