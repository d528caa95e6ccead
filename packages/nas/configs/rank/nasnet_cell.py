"""Cells of seven nodes with two inputs each, trained on CIFAR-10 (LaNAS): multi-edge GATES against sequences."""

name = "rank_nasnet_cell"
table = "nasnet_cell"
path = "data/nas/lanas_nasnet_cell_acc.parquet"
label = "valid_acc"
shares = (0.02, 0.1, 0.5, 1.0)
seeds = (0, 1)
learners = [
    dict(name="MLP", encoder="mlp", epochs=100),
    dict(name="LSTM", encoder="lstm", widths=(), epochs=100),
    dict(name="GATES", encoder="gates", epochs=100),
    dict(name="forest, genes", baseline="forest"),
]
