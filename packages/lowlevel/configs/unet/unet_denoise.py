"""The project's own denoiser, blind to the noise level, trained on the photographs that scikit-image and scikit-
learn bring along and measured on four of them that are held out.
"""

name = "unet_denoise"
network = "unet_denoise"
train = {"gt": "samples", "sigma": (5, 50), "patch_size": 64, "color": "rgb", "enlarge": 16}
validation = {"gt": "samples", "sigma": 25, "every": 3000}
loss = {"type": "l1"}
batch_size = 8
optimizer = {"type": "Adam", "lr": 1e-3}
threads = 1
schedule = "warm_cosine"
iterations = 20_000
ema = 0.999
checkpoint_every = 500
