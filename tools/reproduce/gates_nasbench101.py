"""GATES on NAS-Bench-101: encoders by training size (Ning et al., ECCV 2020, table 1)."""

title = "Encoders on NAS-Bench-101, hinge loss: Kendall's tau"
run = "within.nas.published:ranking"
config = "rank/nasbench101.py"
file = "nas/nasbench101.parquet"
data = "nas/nasbench101.parquet, written by `within nas prepare nasbench101 nasbench_only108.tfrecord FILE`"
