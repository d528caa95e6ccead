"""TA-GATES (Ning et al., NeurIPS 2022) beside GATES of the same width on NAS-Bench-201."""

_base_ = "nasbench201.py"

name = "rank_nasbench201_ta_gates"
shares = (0.01, 0.05, 0.1)
learners = [
    dict(name="GATES", encoder="gates", encoder_options=dict(widths=(128, 128, 128)), widths=(200,)),
    dict(name="TA-GATES", encoder="ta_gates", widths=(200,)),
    dict(name="TA-GATES, 4 steps", encoder="ta_gates", encoder_options=dict(time_steps=4), widths=(200,)),
]
