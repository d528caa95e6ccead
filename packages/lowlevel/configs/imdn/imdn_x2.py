"""IMDN x2 (Hui et al., ACM MM 2019) as its authors train it: 1000 epochs of 1000 iterations on DIV2K, patches of
192, Adam 2e-4 halved every 200 epochs.
"""

_base_ = "../_base_/div2k_x2.py"
name = "imdn_x2"
network = "imdn_x2"
train = {"patch_size": 192}
loss = {"type": "l1"}
batch_size = 16
optimizer = {"type": "Adam", "lr": 2e-4}
schedule = {"type": "StepLR", "step_size": 200_000, "gamma": 0.5}
iterations = 1_000_000
seed = 1
