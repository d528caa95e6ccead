"""Gaussian denoising: DnCNN (Zhang et al., IEEE TIP 2017) on Set12 and BSD68, and a Noise2Noise U-Net on Kodak."""

title = "Gaussian denoising with DnCNN on Set12 and BSD68, PSNR in dB"
run = "within.lowlevel.tables:restoration"
data = "a folder with weights/, Set12/ (12 images), BSD68/ (68 gray images) and Kodak24/ (24 crops of 500 x 500)"

_authors = "the authors' figure"
_protocol = "these weights by this protocol; the authors' procedure differs or they give none"
# PSNR of the weights in github.com/SaoYan/DnCNN-PyTorch, as its README states them: S for one noise level, B for all.
_saoyan = {"Set12": {15: 32.859, 25: 30.404, 50: 27.178}, "BSD68": {15: 31.71, 25: 29.21, 50: 26.22}}
_saoyan_blind = {"Set12": {15: 32.680, 25: 30.362, 50: 27.206}, "BSD68": {15: 31.61, 25: 29.16, 50: 26.23}}
_images = {"Set12": 12, "BSD68": 68}

rows = [
    {
        "name": "DnCNN-25 (KAIR), Set12",
        "network": "dncnn_merged",
        "weights": "dncnn_25_bnmerged_kair.safetensors",
        "protocol": "set12_sigma25_kair",
        "metric": "psnr_float_rgb",
        "reference": 30.436,
        "origin": _authors,
        "gt": "Set12",
        "images": 12,
    },
    *(
        {
            "name": f"{title} (SaoYan), {folder}, sigma {sigma}",
            "network": network,
            "weights": weights.format(sigma=sigma),
            "protocol": f"{folder.lower()}_sigma{sigma}_kair",
            "metric": "psnr_float_rgb",
            "reference": reference,
            "origin": _authors,
            "gt": folder,
            "images": _images[folder],
            "slow": folder == "BSD68",
        }
        for title, network, weights, figures in (
            ("DnCNN-S", "dncnn_s", "dncnn_s{sigma}_bn_saoyan.safetensors", _saoyan),
            ("DnCNN-B", "dncnn_b", "dncnn_b_bn_saoyan.safetensors", _saoyan_blind),
        )
        for folder, references in figures.items()
        for sigma, reference in references.items()
    ),
    *(
        {
            "name": f"N2N U-Net, {kind}, Kodak",
            "network": "n2n_unet",
            "weights": weights,
            "protocol": "kodak24_n2n",
            "metric": "psnr_uint8_rgb",
            "reference": reference,
            "origin": _protocol,
            "gt": "Kodak24",
            "images": 24,
            "part": part,
        }
        for kind, weights, reference, part in (
            ("clean targets", "n2n_unet_gaussian_clean.safetensors", 31.4735, {8: 31.2552}),
            ("noisy targets", "n2n_unet_gaussian_noisy.safetensors", 31.0558, {}),
        )
    ),
]
