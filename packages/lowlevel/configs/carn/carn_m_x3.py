"""CARN-M x3 (Ahn, Kang, Sohn, ECCV 2018) by the defaults of the authors' script, for one scale: low-resolution
patches of 64, L1, Adam 1e-4 halved every 150k of 200k iterations, gradients clipped to a norm of 10.
"""

_base_ = "../_base_/div2k_x3.py"
name = "carn_m_x3"
network = "carn_m_x3"
train = {"patch_size": 192}
loss = {"type": "l1"}
batch_size = 64
optimizer = {"type": "Adam", "lr": 1e-4}
schedule = {"type": "StepLR", "step_size": 150_000, "gamma": 0.5}
clip_gradients = 10.0
iterations = 200_000
