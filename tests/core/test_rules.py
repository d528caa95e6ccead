"""Operator rules, one operator at a time: what the labels say must be what the numbers do.

`couple` is checked by perturbation: with every position of every operand that carries one label changed, only positions
of the result with that label may change (unless the rule declares that its statistics span channels); a label that
ends in the operator must not matter once its positions are zero. `storage` is checked against the storages of the
computed result.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.core.networks import Function, conv, image, seeded
from tests.core.operator_cases import CASES, ELSEWHERE, RECURRENT, STEPS
from torch import fx

from within.core.graph import trace
from within.core.graph.operator import flatten
from within.core.graph.rules import RULES, storage_of
from within.core.pruning.masked import masked_slim_error
from within.core.pruning.slim import slim


def test_every_rule_has_a_case_or_a_reason():
    """A rule that is added without a check."""
    covered = {name.split(" ")[0] for name in CASES}
    assert set(RULES) - covered - set(ELSEWHERE) == set()
    assert not covered - set(RULES)


@pytest.mark.parametrize("name", sorted(set(CASES) - RECURRENT))
def test_a_change_of_one_channel_stays_in_that_channel(name: str):
    """A permutation, an offset or a block that is wrong by one position."""
    case = CASES[name]()
    kind = case.op.kind
    sets = case.coupling.sets
    before = case.run(case.tensors)
    names = case.output_names(len(before))
    frozen = sets.frozen_classes()
    outputs = set().union(*(case.classes(output) for output in names)) - set(frozen)
    inputs = set().union(*(case.classes(operand) for operand in case.tensors))
    changed_somewhere = leaks = False
    for label_class in sorted(outputs & inputs):
        changed = dict(case.tensors)
        for operand, tensor in case.tensors.items():
            mask = case.masks(operand, tensor.shape, label_class)
            changed[operand] = torch.where(mask, 0.9 - tensor, tensor) if tensor.is_floating_point() else tensor
        after = case.run(changed)
        for output, old, new in zip(names, before, after, strict=True):
            differs = (old != new) & ~(old.isnan() & new.isnan())
            changed_somewhere |= bool(differs.any())
            leaks |= bool((differs & ~case.masks(output, old.shape, label_class)).any())
    spans_channels = bool(case.coupling.sensitive) or bool(case.coupling.mixing)
    if not spans_channels:
        assert not leaks
    if outputs & inputs and kind not in STEPS:
        assert changed_somewhere


@pytest.mark.parametrize("name", sorted(RECURRENT))
def test_hidden_units_reach_each_other_through_their_columns_only(name: str):
    """A gate block that is offset: with the columns of a unit zero, its rows must not matter to any other unit."""
    case = CASES[name]()
    before = case.run(case.tensors)
    names = case.output_names(len(before))
    units = set.intersection(*(case.classes(output) for output in names))
    (columns,) = [operand for operand, tensor in case.tensors.items() if tensor.dim() == 2 and tensor.shape[1] == 5]
    assert len(units) == 5
    for unit in units:
        found = []
        for new in (0.0, 0.7):
            changed = {
                operand: tensor.masked_fill(case.masks(operand, tensor.shape, unit), new)
                for operand, tensor in case.tensors.items()
            }
            (place,) = [
                int(np.flatnonzero(case.coupling.sets.find(item.ids) == unit)[0])
                for item in case.coupling.of(
                    case.op.node.graph.find_nodes(op="placeholder")[list(case.tensors).index(columns)]
                )
                if item.axes == (1,)
            ]
            changed[columns][:, place] = 0.0
            found.append(case.run(changed))
        for output, old, new in zip(names, *found, strict=True):
            mask = case.masks(output, old.shape, unit)
            assert torch.equal(old[~mask], new[~mask])
            assert not torch.equal(old[mask], new[mask])


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "group_norm", "softmax", "cumsum", "log_softmax"])
def test_rules_that_declare_statistics_over_channels_are_right(name: str):
    """A declaration that is not needed would hide mistakes, for those operators are not compared with a dense run."""
    case = CASES[name]()
    assert case.op.name in case.coupling.sensitive


@pytest.mark.parametrize(
    "name",
    [name for name in sorted(CASES) if name.split(" ")[0] in (
        "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear", "matmul",
        "bmm", "mm", "addmm", "baddbmm", "einsum", "scaled_dot_product_attention", "lstm", "gru", "rnn_relu",
    )],
)  # fmt: skip
def test_a_channel_that_ends_in_an_operator_is_gone_when_it_is_zero(name: str):
    """Contraction with the wrong axis, or with another operand's channel: zero on one side must cancel the other."""
    case = CASES[name]()
    outputs = set().union(*(case.classes(output) for output in case.output_names(len(case.run(case.tensors)))))
    ending = set().union(*(case.classes(operand) for operand in case.tensors)) - outputs
    ending -= set(case.coupling.sets.frozen_classes())
    assert ending or "depthwise" in name or "grouped" in name or "transpose2d" in name
    holders = [operand for operand in case.tensors if case.classes(operand) & ending]
    for label_class in sorted(ending):
        zeroed = {
            operand: tensor.masked_fill(case.masks(operand, tensor.shape, label_class), 0.0)
            for operand, tensor in case.tensors.items()
        }
        reference = case.run(zeroed)
        for free in holders:  # any values on one side, while the others are zero
            mixed = dict(zeroed) | {free: case.tensors[free]}
            for wanted, found in zip(reference, case.run(mixed), strict=True):
                torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(CASES))
def test_storage_is_where_the_rule_says(name: str):
    """A view that is counted as new memory, or a copy that is counted as nothing."""
    case = CASES[name]()
    node = case.op.node
    given = {operand: tensor.clone() for operand, tensor in case.tensors.items()}
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda item: given[item.name])
    result = node.target(*args, **kwargs)
    first = result[0] if isinstance(result, (tuple, list)) else result
    shared = {tensor.untyped_storage().data_ptr() for tensor in given.values()}
    is_view = first.untyped_storage().data_ptr() in shared
    says = storage_of(case.op)
    assert says == "maybe_view" or (says == "view") == is_view


def test_flatten_finds_tensors_in_lists():
    case = CASES["cat"]()
    assert [node.name for node in flatten(list(case.op.arguments.values()))] == ["operand_0", "operand_1"]


def test_an_index_tensor_follows_the_channels_that_it_shares():
    """A gather from a slim tensor by an index tensor that still has the dense number of channels."""
    positions = torch.randint(0, 8, (1, 4, 8, 1), generator=torch.Generator().manual_seed(0))
    model = seeded(Function(lambda m, x: m.b(m.a(x).gather(3, positions)), a=conv(3, 4), b=conv(4, 2)))
    graph = trace(model, image())
    (group,) = graph.channel_groups()
    assert masked_slim_error(graph, {group.name: [1, 3]}, slim(graph, {group.name: [1, 3]})) < 1e-6
    own = Function(lambda m, x: m.b(m.a(x).gather(3, m.a(x).argsort(dim=3))), a=conv(3, 4), b=conv(4, 2))
    assert trace(seeded(own), image()).unsupported[0].kind == "argsort"


@pytest.mark.parametrize(("take", "cut"), [("argmax", False), ("indices", False), ("values", True)])
def test_channels_whose_numbers_are_read_stay(take: str, cut: bool):
    """A class map would name other classes after a cut; the largest value alone may be of fewer."""
    takes = {
        "argmax": lambda y: y.argmax(1).float(),
        "indices": lambda y: y.max(1)[1].float(),
        "values": lambda y: y.max(1)[0],
    }
    graph = trace(seeded(Function(lambda m, x: m.b(takes[take](m.a(x))[:, None]), a=conv(3, 4), b=conv(1, 2))), image())
    assert bool(graph.channel_groups()) == cut


def test_every_example_in_the_table_has_a_rule_of_its_kind():
    """A case that runs another operator than its name says."""
    assert {name.split(" ")[0]: CASES[name]().op.kind for name in CASES} == {
        name.split(" ")[0]: name.split(" ")[0] for name in CASES
    }
