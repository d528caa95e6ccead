"""GATES on NAS-Bench-201: encoders by training size (Zhao et al., AAAI 2023, table 2: rows without DELE)."""

title = "Encoders on NAS-Bench-201, hinge loss: Kendall's tau"
run = "within.nas.published:ranking"
config = "rank/nasbench201.py"
file = "nas/nasbench201.parquet"
data = "nas/nasbench201.parquet: arch_idx, op_0to1 ... op_2to3, cifar10_test_acc_200ep, and zero-cost scores"
