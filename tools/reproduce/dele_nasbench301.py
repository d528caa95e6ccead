"""DELE on NAS-Bench-301 (Zhao et al., AAAI 2023, table 2)."""

title = "DELE on NAS-Bench-301: Kendall's tau"
run = "within.nas.published:ranking"
config = "rank/nasbench301_dele.py"
file = "nas/nasbench301.csv"
data = "nas/nasbench301.csv: genotype (format of DARTS), accuracy, and the cheap labels that the configuration names"
