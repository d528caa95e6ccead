"""Where to apply a transform: the sites alive at the peak, as long as the peak falls.

Transforms such as splitting a concatenation help at one place and cost at another. A *site* is a node, by its name, and
has a few options. All sites whose tensors are alive at the highest rows are tried together and one by one; the best
trial is kept if the sorted list of live bytes falls (the peak first, then the next row, so that equal peaks can go one
after the other); then the new peak is looked at. The result names sites and options, and replays without a search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import fx

from within.core.transform.lifetimes import NodeWorkspace
from within.core.transform.score import Ruler, Score

Choice = dict[str, str]

TRIALS = 48  # bounds the search; networks repeat their blocks, so that few trials decide
SINGLE = 8  # sites tried one by one at a time


def choose(
    apply: Callable[[Choice], fx.GraphModule],
    sites: Mapping[str, Sequence[str]],
    inputs: Sequence[Any],
    *,
    near: Mapping[str, Sequence[str]] | None = None,
    workspace: NodeWorkspace | None = None,
    trials: int = TRIALS,
) -> Choice:
    """Returns the sites at which a transform lowers the peak, with the option to take at each.

    Arguments:
        apply: builds the graph module with the transform at the given sites; node names elsewhere stay.
        sites: the options of each site.
        inputs: example inputs; the peak is that of their sizes.
        near: the nodes that a site changes, where it is more than the node that names it.
        workspace: counted in the peak of the backend, which then decides; the peak without it may not rise.
        trials: at most so many graphs are built.
    """
    ruler = Ruler(inputs, workspace)
    chosen: Choice = {}
    state = ruler.measure(apply({}))
    rest = dict(sites)
    spent = 0
    while rest and spent < trials:
        hot = [name for name in rest if state.touches((near or {}).get(name, (name,)))]
        if not hot:
            break
        best: tuple[Score, Choice] | None = None
        for candidate in _candidates(hot, rest):
            if spent >= trials:
                break
            spent += 1
            trial = {**chosen, **candidate}
            found = ruler.measure(apply(trial))
            if found.better_than(state) and (best is None or found.better_than(best[0])):
                best = (found, trial)
        if best is None:
            rest = {name: options for name, options in rest.items() if name not in hot}
            continue
        state, chosen = best
        rest = {name: options for name, options in sites.items() if name not in chosen and name in rest}
    return {name: chosen[name] for name in sites if name in chosen}


def _candidates(hot: list[str], sites: Mapping[str, Sequence[str]]) -> list[Choice]:
    options = list(dict.fromkeys(option for name in hot for option in sites[name]))
    together = [{name: option for name in hot if option in sites[name]} for option in options]
    single = [{name: option} for name in hot[:SINGLE] for option in sites[name]] if len(hot) > 1 else []
    return together + single
