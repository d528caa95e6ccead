"""Search on NAS-Bench-101 by GATES with three inner searches (Ning et al., ECCV 2020, section 4.4)."""

title = "Searches on NAS-Bench-101: published median queries are 220,000 (random), 24,000 (evolution), 400 (GATES)"
run = "within.nas.published:searching"
config = "search/nasbench101.py"
file = "nas/nasbench101.parquet"
data = "nas/nasbench101.parquet, written by `within nas prepare nasbench101 nasbench_only108.tfrecord FILE`"
