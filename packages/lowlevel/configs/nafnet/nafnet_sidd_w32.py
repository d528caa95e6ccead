"""NAFNet of width 32 on SIDD (Chen et al., ECCV 2022) by the authors' options: crops of 256, PSNR loss, AdamW 1e-3
with a cosine down to 1e-7, gradients clipped to a norm of 0.01; the batch is that of their 8 GPUs together.
"""

name = "nafnet_sidd_w32"
network = "nafnet_sidd_w32"
train = {
    "gt": "SIDD/train/gt_crops.lmdb",
    "lq": "SIDD/train/input_crops.lmdb",
    "backend": "lmdb",
    "patch_size": 256,
    "flip": False,
    "rotate": False,
}
validation = {
    "gt": "SIDD/val/gt_crops.lmdb",
    "lq": "SIDD/val/input_crops.lmdb",
    "backend": "lmdb",
    "metrics": {"psnr": {"kind": "psnr", "values": "float"}, "ssim": {"kind": "ssim", "values": "float"}},
    "every": 20_000,
}
loss = {"type": "negative_psnr"}
batch_size = 32
optimizer = {"type": "AdamW", "lr": 1e-3, "betas": (0.9, 0.9), "weight_decay": 0.0}
schedule = {"type": "CosineAnnealingLR", "T_max": 200_000, "eta_min": 1e-7}
clip_gradients = 0.01
iterations = 200_000
workers = 4
checkpoint_every = 5000
seed = 10
