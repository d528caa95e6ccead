"""ImageNet networks of Accel-NASBench under a latency limit that a table answers before anything is trained."""

name = "search_accel_nasbench"
table = "accel_nasbench"
path = "data/nas/accel_nasbench_imagenet.parquet"
objective = "val_top1"
queries = 200
seeds = (0, 1, 2)
limits = [dict(cost="macs", most=400e6)]
methods = [
    dict(kind="random"),
    dict(kind="evolution", population=30, drawn=10),
    dict(kind="predictor", learner=dict(baseline="forest"), each=10),
]
