"""DnCNN-S for Gaussian noise of sigma 25 (Zhang et al., TIP 2017), as the published PyTorch code trains it: patches
of 40 at every 10 pixels of 400 images at four scales, Adam 1e-3, a tenth of it from epoch 30 of 50.
"""

name = "dncnn_s25"
network = "dncnn_s"
train = {"gt": "BSD400", "sigma": 25, "patch_size": 40, "stride": 10, "scales": (1.0, 0.9, 0.8, 0.7), "color": "gray"}
validation = {"gt": "Set12", "protocol": "set12_sigma25_kair", "every": 5000}
loss = {"type": "half_sum_of_squares"}
batch_size = 128
optimizer = {"type": "Adam", "lr": 1e-3}
epochs = 50
schedule = {"type": "MultiStepLR", "milestones": [30], "gamma": 0.1}  # in epochs
