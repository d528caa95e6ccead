"""DELE on NAS-Bench-201 (Zhao et al., AAAI 2023, table 2)."""

title = "DELE on NAS-Bench-201: Kendall's tau"
run = "within.nas.published:ranking"
config = "rank/nasbench201_dele.py"
file = "nas/nasbench201.parquet"
data = "nas/nasbench201.parquet: arch_idx, op_0to1 ... op_2to3, cifar10_test_acc_200ep, and the cheap labels"
