"""GATES against a forest on 1 % of NAS-Bench-201: half a minute on a laptop."""

_base_ = "nasbench201.py"

name = "rank_nasbench201_quick"
shares = (0.01,)
seeds = (0,)
learners = [dict(name="GATES", encoder="gates"), dict(name="forest, graph", baseline="forest", features="graph")]
