"""Fold batch normalisation into the convolution or linear layer before or after it.

In evaluation y = s x + t with s = gamma / sqrt(var + eps), t = beta - s mean. After a layer W x + b:
W' = s W, b' = s b + t. Before one: W' = W s along its input channels, b' = b + sum of W t. Zero padding would have to
be t / s padding there, so a shift is folded forward only into layers that do not pad.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from within.core.transform.editable import arguments, editable, finished, kind, set_parameter, value

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
LAYERS = (*CONVOLUTIONS, *TRANSPOSED, "linear")


def batch_norm_folding(model: nn.Module, inputs: Sequence[Any]) -> fx.GraphModule:
    """Returns the model without those batch normalisations that merge into a neighbour.

    The weights change (they are new parameters under the old names), a missing bias is added beside its weight, and
    training no longer normalises by the batch there.

    Raises:
        WithinError: when the model cannot be traced.
    """
    module = editable(model, inputs)
    norms = {str(node.target) for node in module.graph.nodes if _is_batch_norm(module, node)}
    for fold in (_fold_back, _fold_forward):
        for node in [node for node in module.graph.nodes if _is_batch_norm(module, node)]:
            if node in set(module.graph.nodes):  # a shared one goes with the first of its calls
                fold(module, node)
    used = {str(node.target) for node in module.graph.nodes if node.op in ("call_module", "get_attr")}
    for path in norms:
        if not any(name == path or name.startswith(f"{path}.") for name in used):
            module.delete_submodule(path)
    return finished(module)


def _is_batch_norm(module: fx.GraphModule, node: fx.Node) -> bool:
    if node.op != "call_module":
        return False
    norm = module.get_submodule(str(node.target))
    return isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None


def _fold_back(module: fx.GraphModule, node: fx.Node) -> None:
    layer = node.args[0]
    assert isinstance(layer, fx.Node)
    if not _foldable(module, layer) or len(layer.users) != 1:
        return
    if kind(layer) == "linear" and value(layer).dim() != 2:
        return  # the normalised axis is not the last one
    sites = _sites_of(module, layer)
    norms = [next(iter(site.users)) for site in sites if len(site.users) == 1]
    same = all(_is_batch_norm(module, norm) and norm.target == node.target for norm in norms)
    if len(norms) != len(sites) or not same:
        return  # shared weights that are normalised in different ways
    scale, shift = _affine(module, node)
    given = arguments(layer)
    weight, bias = _parameter(module, given["weight"]), given["bias"]
    axis = 1 if kind(layer) in TRANSPOSED else 0
    folded = _scaled(weight, scale, axis, given.get("groups", 1))
    old = torch.zeros_like(scale) if bias is None else _parameter(module, bias)
    _store(module, sites, folded, old * scale + shift)
    for norm in norms:
        norm.replace_all_uses_with(norm.args[0])  # type: ignore[arg-type]
        module.graph.erase_node(norm)


def _fold_forward(module: fx.GraphModule, node: fx.Node) -> None:
    users = list(node.users)
    if not users or any(not _foldable(module, user) or user.args[0] is not node for user in users):
        return
    scale, shift = _affine(module, node)
    for user in users:
        sites = _sites_of(module, user)
        if any(site.args[0] is not node for site in sites):
            return
        if kind(user) == "linear" and value(node).dim() != 2:
            return
        if bool(shift.any()) and (kind(user) in TRANSPOSED or _pads(user)):
            return
    done: set[Any] = set()
    for user in users:
        given = arguments(user)
        weight_node, bias = given["weight"], given["bias"]
        if weight_node in done:
            continue
        done.add(weight_node)
        weight = _parameter(module, weight_node)
        groups = int(given.get("groups", 1))
        axis = 0 if kind(user) in TRANSPOSED else 1
        if axis == 0 or groups == 1:
            folded = _scaled(weight, scale, axis, 1)
        else:  # output channel o reads the inputs of its own group
            per_output = scale.reshape(groups, -1).repeat_interleave(weight.shape[0] // groups, 0)
            folded = weight * _over_kernel(per_output, weight)
        old = None if bias is None else _parameter(module, bias)
        if bool(shift.any()):
            moved = shift.reshape(groups, -1).repeat_interleave(weight.shape[0] // groups, 0)
            taps = weight.reshape(*weight.shape[:2], -1).sum(-1)
            added = (taps * moved).sum(1)
            old = added if old is None else old + added
        _store(module, _sites_of(module, user), folded, old)
    node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
    module.graph.erase_node(node)


def _foldable(module: fx.GraphModule, layer: fx.Node) -> bool:
    """Whether a node is a layer whose weight and bias are parameters that only such layers read."""
    if kind(layer) not in LAYERS:
        return False
    given = arguments(layer)
    for name in ("weight", "bias"):
        node = given[name]
        if node is None:
            continue
        if not isinstance(node, fx.Node) or node.op != "get_attr":
            return False
        if any(kind(user) != kind(layer) or arguments(user)[name] is not node for user in node.users):
            return False
    return len({arguments(site)["bias"] for site in _sites_of(module, layer)}) == 1


def _sites_of(module: fx.GraphModule, layer: fx.Node) -> list[fx.Node]:
    """Returns all calls with the weight of `layer`: shared modules are called several times."""
    target = arguments(layer)["weight"].target
    sites = []
    for node in module.graph.nodes:
        if kind(node) in LAYERS and getattr(arguments(node)["weight"], "target", None) == target:
            sites.append(node)
    return sites


def _pads(layer: fx.Node) -> bool:
    if kind(layer) == "linear":
        return False
    padding = arguments(layer)["padding"]
    if isinstance(padding, str):
        return padding != "valid"
    return any(padding) if isinstance(padding, (list, tuple)) else bool(padding)


def _affine(module: fx.GraphModule, node: fx.Node) -> tuple[Tensor, Tensor]:
    norm = module.get_submodule(str(node.target))
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double()
    return scale, shift


def _scaled(weight: Tensor, scale: Tensor, axis: int, groups: int) -> Tensor:
    shape = [1] * weight.dim()
    if axis == 1 and groups > 1:  # transposed: (in, out / groups, ...)
        per_input = scale.reshape(groups, -1).repeat_interleave(weight.shape[0] // groups, 0)
        return weight * _over_kernel(per_input, weight)
    shape[axis] = -1
    return weight * scale.reshape(shape)


def _over_kernel(matrix: Tensor, weight: Tensor) -> Tensor:
    return matrix.reshape(matrix.shape + (1,) * (weight.dim() - 2))


def _parameter(module: fx.GraphModule, node: fx.Node) -> Tensor:
    owner, _, leaf = str(node.target).rpartition(".")
    found = getattr(module.get_submodule(owner), leaf)
    assert isinstance(found, Tensor)
    return found.detach().double()


def _store(module: fx.GraphModule, sites: Sequence[fx.Node], weight: Tensor, bias: Tensor | None) -> None:
    """Replaces the weight and the bias that some calls share; creates the bias beside the weight if there was none."""
    given = arguments(sites[0])
    weight_node, bias_node = given["weight"], given["bias"]
    old = module.get_parameter(str(weight_node.target))
    kept = torch.channels_last if old.dim() == 4 and not old.is_contiguous() else torch.contiguous_format
    set_parameter(module, str(weight_node.target), weight.to(old.dtype).contiguous(memory_format=kept))
    if bias is None:
        return
    new = bias.to(old.dtype).requires_grad_(old.requires_grad)
    if bias_node is not None:
        set_parameter(module, str(bias_node.target), new)
        return
    path, _, leaf = str(weight_node.target).rpartition(".")
    name = "bias" if leaf == "weight" else f"{leaf}_bias"
    name = f"{path}.{name}" if path else name
    set_parameter(module, name, new)
    with module.graph.inserting_after(weight_node):
        added = module.graph.get_attr(name)
    added.meta["val"] = new
    for site in sites:
        position = [argument.name for argument in site.target._schema.arguments].index("bias")  # type: ignore[union-attr]
        site.args = (*site.args[:position], added, *site.args[position + 1 :])
