"""The most accurate cell within 20 ms on a Samsung A50 and a million parameters; a query measures latency too."""

_base_ = "nasbench201.py"

name = "search_nasbench201_latency"
limits = [dict(cost="lat_samsung_a50", most=20), dict(cost="params", most=1_000_000)]
further = dict(lat_samsung_a50=-1)
seeds = (0, 1, 2)
methods = [
    dict(kind="random"),
    dict(kind="nsga2", population=20),
    dict(
        kind="predictor",
        learner=dict(encoder="gates", widths=(100,), epochs=60, batch_size=128),
        start=20,
        each=10,
        inner="evolution",
    ),
]
