"""The Noise2Noise U-Net with clean targets (after Lehtinen et al., ICML 2018) as its public PyTorch version trains
it: crops of 128, sigma from 0 to 50, L2, Adam 1e-3; here at a constant rate.
"""

name = "n2n_unet"
network = "n2n_unet"
train = {"gt": "ImageNet/train", "sigma": (0, 50), "patch_size": 128, "flip": False, "rotate": False, "color": "rgb"}
validation = {"gt": "Kodak24", "protocol": "kodak24_n2n", "every": 20_000}
loss = {"type": "mse"}
batch_size = 4
optimizer = {"type": "Adam", "lr": 1e-3, "betas": (0.9, 0.99)}
epochs = 100
workers = 4
