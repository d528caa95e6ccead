"""Losses for GATES on NAS-Bench-201."""

_base_ = "nasbench201.py"

name = "rank_nasbench201_losses"
learners = [
    dict(name=f"GATES, {loss}", encoder="gates", loss=loss) for loss in ("mse", "hinge", "bce", "comparator", "listmle")
]
