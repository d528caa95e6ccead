"""Super-resolution x2 on DIV2K cut into sub-images, Set5 as validation: BasicSR's data preparation."""

train = {
    "gt": "DIV2K/DIV2K_train_HR_sub",
    "lq": "DIV2K/DIV2K_train_LR_bicubic/X2_sub",
    "patch_size": 96,
    "flip": True,
    "rotate": True,
}
validation = {"gt": "Set5/GTmod12", "lq": "Set5/LRbicx2", "every": 5000}
workers = 6
checkpoint_every = 5000
seed = 10
