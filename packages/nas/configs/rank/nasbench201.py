"""Encoders and cheap baselines on NAS-Bench-201, the authors' split: the first 7,813 numbers are learned from."""

name = "rank_nasbench201"
table = "nasbench201"
path = "data/nas/nasbench201.parquet"
label = "cifar10_test_acc_200ep"
split = dict(column="arch_idx", below=7813)
shares = (0.01, 0.05, 0.1, 0.5, 1.0)
seeds = (0, 1, 2)
learners = [
    dict(name="MLP", encoder="mlp", widths=()),
    dict(name="LSTM", encoder="lstm", widths=(), published=(0.5692, 0.6410, 0.7258, 0.8765, 0.9000)),
    dict(name="GCN", encoder="gcn"),
    dict(name="GATES", encoder="gates", published=(0.7332, 0.8582, 0.8865, 0.9180, 0.9249)),
    dict(name="forest, genes", baseline="forest"),
    dict(name="forest, graph", baseline="forest", features="graph"),
    dict(
        name="forest, graph and zero-cost",
        baseline="forest",
        features="graph",
        cheap_labels=("zc_synflow", "zc_nwot", "zc_jacov", "zc_snip", "zc_grad_norm"),
    ),
]
