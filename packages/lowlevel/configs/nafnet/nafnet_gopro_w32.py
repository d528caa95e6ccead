"""NAFNet of width 32 on GoPro deblurring."""

_base_ = "nafnet_sidd_w32.py"
name = "nafnet_gopro_w32"
network = "nafnet_gopro_w32"
train = {"gt": "GoPro/train/sharp_crops.lmdb", "lq": "GoPro/train/blur_crops.lmdb", "flip": True, "rotate": True}
validation = {
    "gt": "GoPro/test/target.lmdb",
    "lq": "GoPro/test/input.lmdb",
    "metrics": {"psnr": {"kind": "psnr", "values": "uint8"}, "ssim": {"kind": "ssim", "values": "uint8"}},
}
