"""A search whose networks are evaluated by a function of your own: replace `evaluate` by module:function of yours.

The function takes an architecture, a tuple of numbers of values of the space's genes, and returns a mapping with the
objective and every limited cost that is measured. It runs in `workers` processes, or on Ray.
"""

name = "search_own"
space = "nasbench201"
evaluate = "within.nas.train_candidate:evaluate"
evaluate_arguments = dict(data="data/cifar10", epochs=12)
objective = "accuracy"
limits = [dict(cost="params", most=800_000), dict(cost="milliseconds", most=30)]
queries = 100
workers = 2
methods = [
    dict(
        kind="predictor", learner=dict(encoder="gates", epochs=60, batch_size=128), start=20, each=10, inner="evolution"
    )
]
