"""NAFNet (Chen et al., ECCV 2022) on real noise (SIDD) and motion blur (GoPro), as its README states the figures."""

title = "NAFNet on SIDD and GoPro, PSNR in dB"
run = "within.lowlevel.tables:restoration"
data = "a folder with weights/, SIDD/gt and SIDD/lq (1,280 blocks of 256 x 256), GoPro/gt and GoPro/lq (1,111 images)"

rows = [
    {
        "name": f"NAFNet width {width}, {folder}",
        "network": f"nafnet_{folder.lower()}_w{width}",
        "weights": f"nafnet_{folder.lower()}_w{width}.safetensors",
        "protocol": "paired_rgb",
        "metric": "psnr_uint8_rgb",
        "reference": reference,
        "origin": "the authors' figure",
        "gt": f"{folder}/gt",
        "lq": f"{folder}/lq",
        "images": images,
        "slow": True,
    }
    for folder, width, reference, images in (
        ("SIDD", 32, 39.9672, 1280),
        ("SIDD", 64, 40.3045, 1280),
        ("GoPro", 32, 32.8705, 1111),
        ("GoPro", 64, 33.7103, 1111),
    )
]
