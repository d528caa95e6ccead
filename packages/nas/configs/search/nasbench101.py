"""Queries to the best network of NAS-Bench-101 (Ning et al., GATES, ECCV 2020, section 4.4)."""

name = "search_nasbench101"
table = "nasbench101"
path = "data/nas/nasbench101.parquet"
objective = "cifar10_valid_acc_108ep"
queries = 1000
seeds = tuple(range(10))
_gates = dict(encoder="gates", widths=(200,), epochs=50, batch_size=128)
methods = [
    dict(kind="random"),
    dict(kind="evolution", population=100, drawn=25),
    *(
        dict(kind="predictor", name=f"GATES, {inner}", learner=_gates, start=50, each=50, inner=inner)
        for inner in ("random", "evolution", "annealing")
    ),
]
