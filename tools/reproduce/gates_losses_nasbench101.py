"""GATES on NAS-Bench-101: losses by training size (Ning et al., ECCV 2020, table 2)."""

title = "Losses on NAS-Bench-101: Kendall's tau"
run = "within.nas.published:ranking"
config = "rank/nasbench101_losses.py"
file = "nas/nasbench101.parquet"
data = "nas/nasbench101.parquet, written by `within nas prepare nasbench101 nasbench_only108.tfrecord FILE`"
