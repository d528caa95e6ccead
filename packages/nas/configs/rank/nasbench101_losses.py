"""Losses for GATES and GCN on NAS-Bench-101 (Ning et al., GATES, ECCV 2020)."""

_base_ = "nasbench101.py"

name = "rank_nasbench101_losses"
_published = dict(
    mse=(0.4935, 0.5425, 0.5739, 0.6323, 0.7439, 0.7849, 0.8247, 0.8352),
    bce=(0.7460, 0.7696, 0.8352, 0.8550, 0.8828, 0.8913, 0.9006, 0.9042),
    comparator=(0.7250, 0.7622, 0.8367, 0.8540, 0.8793, 0.8891, 0.8987, 0.9011),
    hinge=(0.7634, 0.7789, 0.8434, 0.8594, 0.8841, 0.8922, 0.9001, 0.9030),
    listmle=(0.7359, 0.7604, 0.8312, 0.8558, 0.8852, 0.8897, 0.9003, 0.9009),
)
learners = [
    dict(name=f"GATES, {loss}", encoder="gates", loss=loss, widths=(200,), published=values)
    for loss, values in _published.items()
]
learners.append(
    dict(
        name="GCN, mse",
        encoder="gcn",
        loss="mse",
        widths=(200,),
        published=(0.4536, 0.5058, 0.5587, 0.5699, 0.5846, 0.5871, 0.5901, 0.5941),
    )
)
