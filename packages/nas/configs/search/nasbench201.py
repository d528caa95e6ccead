"""How many queries searches need on NAS-Bench-201; a prior costs no training."""

name = "search_nasbench201"
table = "nasbench201"
path = "data/nas/nasbench201.parquet"
objective = "cifar10_test_acc_200ep"
queries = 200
seeds = tuple(range(10))
_gates = dict(encoder="gates", widths=(100,), epochs=60, batch_size=128)
methods = [
    dict(kind="random"),
    dict(kind="evolution", population=20, drawn=5),
    dict(kind="annealing"),
    dict(kind="predictor", name="forest", learner=dict(baseline="forest"), inner="evolution"),
    dict(kind="predictor", name="GATES", learner=_gates, start=10, each=5),
    dict(
        kind="predictor",
        name="GATES, prior",
        learner=_gates,
        start=10,
        each=5,
        prior=("zc_nwot", "zc_jacov", "zc_synflow", "zc_epe_nas", "zc_l2_norm", "params", "macs"),
    ),
]
