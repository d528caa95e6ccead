"""How much each group gives up when a whole must shrink by a given amount: closed forms of programming-based pruning.

One round of iterative pruning removes the fraction r_g of each group so that the resource falls by at least dF:

    minimise  sum_g phi(r_g; s_g)   subject to   sum_g c_g r_g >= dF,   0 <= r_g <= r_max

with s_g the sensitivity of the loss and c_g = dF/dr_g. For phi = s r^2 / 2 the Karush-Kuhn-Tucker conditions give
r_g = clip(lambda c_g / s_g, 0, r_max); the total freed is piecewise linear in lambda, so sorting its corners finds
lambda exactly. For phi = s r it is a fractional knapsack in order of s_g / c_g.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from within.core.errors import WithinError
from within.core.solve.options import Floats
from within.core.solve.solution import InfeasibleBudget, number


@dataclass(frozen=True)
class Allocation:
    """The fractions to remove.

    Attributes:
        fractions: r, one entry a group.
        multiplier: lambda, the loss that one more unit of the resource would cost.
        loss: `sum_g phi(r_g; s_g)`.
        kkt_residual: the largest violation of the optimality conditions, relative to the size of their terms.
    """

    fractions: tuple[float, ...]
    multiplier: float
    loss: float
    kkt_residual: float


def allocate(
    sensitivity: ArrayLike,
    resource: ArrayLike,
    required: float,
    maximum: ArrayLike = 1.0,
    *,
    form: Literal["quadratic", "linear"] = "quadratic",
    group_names: Sequence[str] | None = None,
) -> Allocation:
    """Returns the fractions that lose least and free the required amount.

    Arguments:
        sensitivity: s, loss for the removed fraction, shape `(groups,)`, not negative.
        resource: c, what the whole group would free, shape `(groups,)`; groups that free nothing keep everything.
        required: dF, in the unit of `resource`; nothing is removed when it is not positive.
        maximum: r_max, a number or shape `(groups,)`.
        form: `"quadratic"` for phi = s r^2 / 2, `"linear"` for phi = s r.
        group_names: for error messages.

    Raises:
        InfeasibleBudget: when removing the maximum everywhere frees too little.
        WithinError: on bad shapes or numbers.
    """
    s, c = np.asarray(sensitivity, dtype=np.float64), np.asarray(resource, dtype=np.float64)
    if s.ndim != 1 or s.size == 0 or c.shape != s.shape:
        raise WithinError(f"Sensitivities {s.shape} and resources {c.shape} must be two lists of the same length")
    top = np.asarray(maximum, dtype=np.float64)
    if top.shape not in ((), s.shape):
        raise WithinError(f"The maximum must be a number or one for each group, not shape {top.shape}")
    top = np.broadcast_to(top, s.shape)
    if not np.isfinite([s, c, top]).all() or not np.isfinite(required) or (s < 0).any() or (top < 0).any():
        raise WithinError("Every number must be finite; sensitivities and maxima must be at least 0")
    if form not in ("quadratic", "linear"):
        raise WithinError(f"There is no form {form!r}", todo="quadratic or linear")
    gain = np.maximum(c, 0.0)
    most = float(gain @ top)
    if required > most * (1 + 1e-12):
        raise _too_much(required, most, gain * top, group_names)
    if required < np.finfo(np.float64).tiny or most == 0:  # below that, shares of it are no numbers any more
        fractions, multiplier = np.zeros(s.size), 0.0
    else:
        fractions, multiplier = (_quadratic if form == "quadratic" else _linear)(s, gain, top, min(required, most))
    loss = s @ fractions**2 / 2 if form == "quadratic" else s @ fractions
    residual = kkt_residual(s, gain, required, top, fractions, multiplier, form=form)
    return Allocation(tuple(fractions.tolist()), float(multiplier), float(loss), residual)


def kkt_residual(
    s: Floats, c: Floats, required: float, top: Floats, r: Floats, multiplier: float, *, form: str = "quadratic"
) -> float:
    """Returns the largest relative violation of stationarity, feasibility and complementary slackness."""
    marginal = s * r if form == "quadratic" else s
    pull = multiplier * c
    # Stationarity: marginal >= pull where nothing is removed, <= where all is, equal in between.
    difference = marginal - pull
    at_zero, at_top = r <= 0, r >= top
    wrong = np.where(at_zero & at_top, 0.0, np.where(at_zero, np.minimum(difference, 0.0), difference))
    wrong = np.where(at_top & ~at_zero, np.maximum(difference, 0.0), wrong)
    size = float(max(np.abs(marginal).max(), np.abs(pull).max())) or 1.0
    stationarity = float(np.abs(wrong).max()) / size
    bounds = float(max(np.max(r - top), np.max(-r), 0.0))
    freed, scale = float(c @ r), max(abs(required), float(np.abs(c) @ np.abs(top))) or 1.0
    missing = max(0.0, required - freed) / scale
    slack = abs(freed - required) / scale if multiplier > 0 else 0.0
    return max(stationarity, bounds, missing, slack)


def _quadratic(s: Floats, c: Floats, top: Floats, required: float) -> tuple[Floats, float]:
    useful = (c > 0) & (top > 0)
    free = useful & (s == 0)
    fractions = np.zeros(s.size)
    given = float(c[free] @ top[free])
    if given >= required:  # what costs nothing suffices
        fractions[free] = top[free] * (required / given)
        return fractions, 0.0
    fractions[free] = top[free]
    paid = np.flatnonzero(useful & ~free)
    corner = top[paid] * s[paid] / c[paid]  # lambda at which the group is used up
    order = np.argsort(corner, kind="stable")
    paid, corner = paid[order], corner[order]
    rate = c[paid] ** 2 / s[paid]
    used_up = np.concatenate(([0.0], np.cumsum(c[paid] * top[paid])[:-1])) + given
    rates_left = np.cumsum(rate[::-1])[::-1]  # of this group and those whose corner comes later
    freed = used_up + corner * rates_left  # at each corner
    segment = min(int(np.searchsorted(freed, required, side="left")), paid.size - 1)
    multiplier = min((required - used_up[segment]) / rates_left[segment], float(corner[segment]))
    fractions[paid] = np.minimum(multiplier * c[paid] / s[paid], top[paid])
    fractions[paid[:segment]] = top[paid[:segment]]
    return fractions, float(multiplier)


def _linear(s: Floats, c: Floats, top: Floats, required: float) -> tuple[Floats, float]:
    useful = np.flatnonzero((c > 0) & (top > 0))
    order = useful[np.argsort(s[useful] / c[useful], kind="stable")]
    freed = np.cumsum(c[order] * top[order])
    last = min(int(np.searchsorted(freed, required, side="left")), order.size - 1)
    fractions = np.zeros(s.size)
    fractions[order[:last]] = top[order[:last]]
    before = float(freed[last - 1]) if last else 0.0
    fractions[order[last]] = min((required - before) / c[order[last]], top[order[last]])
    return fractions, float(s[order[last]] / c[order[last]])


def _too_much(required: float, most: float, parts: Floats, names: Sequence[str] | None) -> InfeasibleBudget:
    labels = names if names else [f"group {group}" for group in range(parts.size)]
    order = np.argsort(-parts, kind="stable").tolist()
    holders = [(labels[group], float(parts[group])) for group in order if parts[group] > 0]
    listed = ", ".join(f"{name} ({number(part)})" for name, part in holders[:5]) or "no group"
    return InfeasibleBudget(
        f"{number(required)} must go, and at most {number(most)} can",
        where=f"most can come from {listed}",
        todo="ask for less in one round, or raise the maximum fraction",
        budget="the required reduction",
        limit=most,
        minimum=required,
        holders=holders,
    )
