"""HAQ: bits for every layer by reinforcement learning (Wang, Liu, Lin, Lin, Han, HAQ: Hardware-Aware Automated
Quantization with Mixed Precision, CVPR 2019).

An episode walks the layers; for each it chooses the bits of the weights, then those of the activations, from a
ten-number state. An action a in [0, 1] becomes

    bits = round((max + 0.5 - (min - 0.5)) a + min - 0.5),

and at the end the whole choice is pushed under the budget: from the last layer to the first, again and again, one bit
off the activations, then one off the weights, until it fits. The first layer keeps the widest weights and its input as
it is, the last layer is widest in both. Every step of the episode gets the reward 0.1 (accuracy - accuracy in float).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from within.core.errors import WithinError
from within.core.graph import Graph
from within.core.graph.operator import shape_of
from within.core.progress import track
from within.core.quantize.cost_table import UNTOUCHED, Bits, CostTable, weighted_layers
from within.core.quantize.ddpg import Ddpg, DdpgSettings
from within.core.quantize.mixed_precision import BitAllocation, allowed_bits
from within.core.solve import InfeasibleBudget

Accuracy = Callable[[Sequence[Bits]], float]
"""The accuracy in percent (or anything to maximise) of the network at these bits."""

STATE = 10


@dataclass(frozen=True)
class LayerDescription:
    """What the agent sees of a layer.

    Attributes:
        depthwise: whether every channel has its own filter.
        in_channels, out_channels: channels (features of a linear layer).
        stride: 0 for a linear layer.
        kernel_size: 1 for a linear layer.
        weights: number of weights.
        feature_map: positions of the input map (input features of a linear layer).
    """

    depthwise: bool
    in_channels: int
    out_channels: int
    stride: int
    kernel_size: int
    weights: int
    feature_map: int


def haq(
    table: CostTable,
    layers: Sequence[LayerDescription],
    accuracy: Accuracy,
    budget: float,
    *,
    float_accuracy: float | None = None,
    fixed: Mapping[int, Bits] | None = None,
    episodes: int = 600,
    warm_up: int = 20,
    settings: DdpgSettings | None = None,
    seed: int = 0,
) -> BitAllocation:
    """Returns the best bits that the search met; its cost is within the budget.

    Arguments:
        table: the costs and the bits to choose from.
        layers: as many as the table has.
        accuracy: called once an episode; fine-tune inside it where that is wanted.
        budget: the most that the network may cost, in the unit of the table.
        float_accuracy: of the network in float; None calls `accuracy` with all bits -1.
        fixed: layers whose bits are given; None keeps the first at (widest, -1) and the last at (widest, widest).
        episodes: in all.
        warm_up: first episodes with random actions, without learning.
        settings: of the agent.
        seed: equal seeds and accuracies give equal results.

    Raises:
        InfeasibleBudget: when the narrowest bits of all free layers cost more than the budget.
        WithinError: layers that do not fit the table; an accuracy that is not finite.
    """
    if len(layers) != len(table):
        raise WithinError(f"There are {len(layers)} layers for a table of {len(table)}", where="layers")
    if not 0 <= warm_up <= episodes or episodes < 1:
        raise WithinError(f"{warm_up} of {episodes} episodes cannot be the warm-up", where="episodes, warm_up")
    fixed = first_and_last(table) if fixed is None else dict(fixed)
    allowed_bits(table, fixed)
    check_budget(table, budget, fixed)
    reference = accuracy([(UNTOUCHED, UNTOUCHED)] * len(table)) if float_accuracy is None else float_accuracy
    features = static_features(layers)
    agent = Ddpg(STATE, 2 * len(table), settings, seed)
    best: BitAllocation | None = None
    for episode in track(range(episodes), "HAQ"):
        learning = episode >= warm_up
        states, actions, chosen = _walk(agent, table, features, episode - warm_up if learning else None)
        bits = push_under(table, chosen, budget, fixed)
        reached = float(accuracy(bits))
        if not math.isfinite(reached):
            raise WithinError(f"The accuracy is {reached}", where=f"episode {episode}")
        reward = 0.1 * (reached - reference)
        for step, action in enumerate(actions):
            last = step == len(actions) - 1
            agent.remember(states[step], action, reward, states[step if last else step + 1], last)
            if learning:
                agent.learn()
        if best is None or reached > best.value:
            best = BitAllocation(tuple(bits), table.of(bits), reached, None, "HAQ (DDPG)")
    assert best is not None
    return best


def first_and_last(table: CostTable) -> dict[int, Bits]:
    """Returns the layers that HAQ keeps: the first at (widest, -1), its input being an image, and the last."""
    widest = (table.weight_bits[-1], table.activation_bits[-1])
    return {len(table) - 1: widest, 0: (widest[0], UNTOUCHED)}


def bits_of(action: float, axis: Sequence[int]) -> int:
    """Returns the bits for an action in [0, 1]: equal shares of the interval for all bit widths of an axis."""
    return axis[min(len(axis) - 1, max(0, round(len(axis) * action - 0.5)))]


def push_under(
    table: CostTable, bits: Sequence[Bits], budget: float, fixed: Mapping[int, Bits] | None = None
) -> list[Bits]:
    """Returns bits within the budget: from the last layer to the first one step down, activations before weights.

    Arguments:
        table, budget: the costs and the most that they may sum to.
        bits: where to start, one pair a layer.
        fixed: layers that have these bits whatever `bits` says.

    Raises:
        InfeasibleBudget: when the narrowest bits of all free layers cost more.
    """
    fixed = fixed or {}
    check_budget(table, budget, fixed)
    places = [list(table.index(layer, fixed.get(layer, pair))) for layer, pair in enumerate(bits)]
    costs = [float(table.cost[layer, weight, activation]) for layer, (weight, activation) in enumerate(places)]
    steps = [
        (layer, operand) for layer in reversed(range(len(table))) if layer not in fixed for operand in (1, 0)
    ]  # operand 1 is the activations
    changed = True
    while changed and math.fsum(costs) > budget:
        changed = False
        for layer, operand in steps:
            if places[layer][operand] > 0:
                places[layer][operand] -= 1
                costs[layer] = float(table.cost[layer, places[layer][0], places[layer][1]])
                changed = True
                if math.fsum(costs) <= budget:
                    break
    free = [(table.weight_bits[weight], table.activation_bits[activation]) for weight, activation in places]
    return [fixed.get(layer, pair) for layer, pair in enumerate(free)]


def check_budget(table: CostTable, budget: float, fixed: Mapping[int, Bits] | None = None) -> None:
    """Checks that the narrowest bits of all free layers fit the budget.

    Raises:
        InfeasibleBudget: when they do not, with what they cost.
    """
    narrowest = (table.weight_bits[0], table.activation_bits[0])
    bits = [(fixed or {}).get(layer, narrowest) for layer in range(len(table))]
    least = table.of(bits)
    if least > budget:
        kept = ", ".join(table.layers[layer] for layer in sorted(fixed or {}))
        raise InfeasibleBudget(
            f"The narrowest bits cost {least:,.12g}, the budget is {budget:,.12g}",
            where=f"kept at their bits: {kept}" if kept else None,
            todo=f"raise the budget to at least {math.ceil(least):,}, or let more layers go",
            budget=table.unit or "the cost of the bits",
            limit=budget,
            minimum=least,
        )


def describe_layers(graph: Graph) -> tuple[LayerDescription, ...]:
    """Returns the layers of a graph in the order of `cost_table.mac_bits`."""
    found: dict[str, LayerDescription] = {}
    for name, op in weighted_layers(graph):
        weight, source = shape_of(op["weight"]), shape_of(op["input"])
        if op.kind == "linear":
            layer = LayerDescription(False, weight[1], weight[0], 0, 1, math.prod(weight), weight[1])
        else:
            stride, groups = op["stride"], int(op["groups"])
            layer = LayerDescription(
                depthwise=groups == source[1] and groups > 1,
                in_channels=source[1],
                out_channels=op.shape[1],
                stride=int(stride[0] if isinstance(stride, (list, tuple)) else stride),
                kernel_size=weight[2],
                weights=math.prod(weight),
                feature_map=math.prod(source[2:]),
            )
        found.setdefault(name, layer)
    return tuple(found.values())


def static_features(layers: Sequence[LayerDescription]) -> NDArray[np.float64]:
    """Returns the eight numbers of the state that do not change, each scaled to [0, 1] over the layers.

    Columns: depthwise, input and output channels, stride, kernel size, weights, input positions, index; a column that
    is the same everywhere becomes zero, since its size would drown the others.
    """
    rows = np.array(
        [
            [
                layer.depthwise,
                layer.in_channels,
                layer.out_channels,
                layer.stride,
                layer.kernel_size,
                layer.weights,
                layer.feature_map,
                number,
            ]
            for number, layer in enumerate(layers)
        ],
        dtype=np.float64,
    )
    low, spread = rows.min(axis=0), np.ptp(rows, axis=0)
    return (rows - low) / np.where(spread > 0, spread, 1.0)


def _walk(
    agent: Ddpg, table: CostTable, features: NDArray[np.float64], episode: int | None
) -> tuple[list[NDArray[np.float64]], list[float], list[Bits]]:
    """Returns the states, actions and bits of an episode; random actions where `episode` is None."""
    states, actions = [], []
    chosen: list[Bits] = []
    previous = 1.0  # the last action, as a fraction of the widest bits
    for layer in range(len(table)):
        pair = []
        for flag, axis in ((1.0, table.weight_bits), (0.0, table.activation_bits)):
            state = np.concatenate([features[layer], [previous, flag]])
            action = agent.explore() if episode is None else agent.act(state, episode)
            bits = bits_of(action, axis)
            previous = bits / axis[-1]
            states.append(state)
            actions.append(action)
            pair.append(bits)
        chosen.append((pair[0], pair[1]))
    return states, actions, chosen
