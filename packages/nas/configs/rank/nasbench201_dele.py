"""DELE on NAS-Bench-201: twelve experts on cheap labels; the 12-epoch accuracy stands for the one-shot accuracy."""

_base_ = "nasbench201.py"

name = "rank_nasbench201_dele"
_labels = (
    "cifar10_test_acc_12ep", "zc_grad_norm", "zc_snip", "zc_grasp", "macs", "zc_fisher", "zc_jacov", "zc_plain",
    "zc_synflow", "zc_nwot", "params", "lat_gold_6226",
)  # fmt: skip
learners = [
    dict(name="GATES", encoder="gates", published=(0.7332, 0.8582, 0.8865, 0.9180, 0.9249)),
    dict(
        name="DELE, GATES",
        encoder="gates",
        cheap_labels=_labels,
        published=(0.8244, 0.8948, 0.9075, 0.9216, 0.9250),
    ),
    dict(name="LSTM", encoder="lstm", widths=(), published=(0.5692, 0.6410, 0.7258, 0.8765, 0.9000)),
    dict(
        name="DELE, LSTM",
        encoder="lstm",
        widths=(),
        cheap_labels=_labels,
        published=(0.7835, 0.8538, 0.8683, 0.8992, 0.9084),
    ),
]
