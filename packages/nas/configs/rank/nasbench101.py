"""Encoders on NAS-Bench-101 (Ning et al., GATES, ECCV 2020); `within nas prepare nasbench101` writes the table."""

name = "rank_nasbench101"
table = "nasbench101"
path = "data/nas/nasbench101.parquet"
label = "cifar10_valid_acc_108ep"
split = dict(below=0.9, shuffled=False)
shares = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
seeds = (0, 1, 2)
_published = {
    "mlp": ("MLP", (0.3971, 0.5272, 0.6463, 0.7312, 0.8592, 0.8718, 0.8893, 0.8955)),
    "lstm": ("LSTM", (0.5509, 0.5993, 0.7112, 0.7747, 0.8440, 0.8576, 0.8859, 0.8931)),
    "gcn": ("GCN", (0.3992, 0.4628, 0.6963, 0.8243, 0.8626, 0.8721, 0.8910, 0.8952)),
    "gcn_global": ("GCN, global node", (0.5343, 0.5790, 0.7915, 0.8277, 0.8641, 0.8747, 0.8918, 0.8950)),
    "gates": ("GATES", (0.7634, 0.7789, 0.8434, 0.8594, 0.8841, 0.8922, 0.9001, 0.9030)),
}
learners = [
    dict(name=title, encoder=encoder, widths=(200,), published=values)
    for encoder, (title, values) in _published.items()
]
learners.append(dict(name="forest, graph", baseline="forest", features="graph"))
