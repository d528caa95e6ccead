"""Pure optimisation: numbers in, a decision with its proof out. Nothing here knows a network.

`knapsack` chooses one option a group within one or several budgets; `fit_widths` chooses channel widths under many
linear limits; `linear_step` and `allocate` are one round of iterative pruning; `monotone`, `convex` and
`sensitivity_curve` prepare measured losses.
"""

from within.core.solve.allocation import Allocation, allocate
from within.core.solve.convex import convex, monotone, sensitivity_curve
from within.core.solve.knapsack import knapsack
from within.core.solve.linear_step import Step, linear_step
from within.core.solve.solution import InfeasibleBudget, Solution
from within.core.solve.widths import Widths, allowed_widths, fit_widths, needed_rows

__all__ = [
    "Allocation",
    "InfeasibleBudget",
    "Solution",
    "Step",
    "Widths",
    "allocate",
    "allowed_widths",
    "convex",
    "fit_widths",
    "knapsack",
    "linear_step",
    "monotone",
    "needed_rows",
    "sensitivity_curve",
]
