"""DELE on NAS-Bench-301 (Zhao et al., AAAI 2023): a table of genotypes, accuracies and zero-cost scores of yours.

Its columns are `genotype`, in the format of DARTS, `accuracy`, and the cheap labels below; the first half is learned
from.
"""

name = "rank_nasbench301_dele"
table = "darts"
path = "data/nas/nasbench301.csv"
label = "accuracy"
split = dict(below=0.5, shuffled=False)
shares = (0.01, 0.05, 0.1, 0.5, 1.0)
seeds = (0, 1, 2)
_labels = (
    "one_shot", "grad_norm", "snip", "grasp", "fisher", "jacob_cov", "plain", "synflow", "synflow_bn", "flops",
    "params",
)  # fmt: skip
learners = [
    dict(name="GATES", encoder="gates", published=(0.4160, 0.6752, 0.7354, 0.7693, 0.7883)),
    dict(
        name="DELE, GATES",
        encoder="gates",
        cheap_labels=_labels,
        published=(0.5529, 0.6830, 0.7433, 0.7752, 0.7842),
    ),
    dict(name="LSTM", encoder="lstm", widths=(), published=(0.4757, 0.6116, 0.6923, 0.7516, 0.7667)),
    dict(
        name="DELE, LSTM",
        encoder="lstm",
        widths=(),
        cheap_labels=_labels,
        published=(0.4805, 0.6405, 0.7075, 0.7544, 0.7751),
    ),
]
