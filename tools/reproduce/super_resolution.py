"""Super-resolution: IMDN (Hui et al., ACM MM 2019) and CARN-M (Ahn et al., ECCV 2018) on Set5."""

title = "Super-resolution on Set5, PSNR of luma in dB"
run = "within.lowlevel.tables:restoration"
data = "a folder with weights/, Set5/HR (5 images), Set5/LR_x2 and Set5/LR_x4 (MATLAB's bicubic, names end in x2, x4)"

_authors = "the authors' figure"
_protocol = "these weights by this protocol; the authors' procedure differs or they give none"

rows = [
    {
        "name": f"{name} x{scale}, Set5",
        "network": network,
        "arguments": {"scale": scale},
        "weights": weights,
        "protocol": f"set5_x{scale}_y",
        "metric": f"psnr_uint8_y_crop{scale}",
        "reference": reference,
        "origin": origin,
        "gt": "Set5/HR",
        "lq": f"Set5/LR_x{scale}",
        "images": 5,
    }
    for name, network, weights, scale, reference, origin in (
        ("IMDN", "imdn_x4", "imdn_x4.safetensors", 4, 32.21, _authors),
        ("IMDN", "imdn_x2", "imdn_x2.safetensors", 2, 38.00, _authors),
        ("CARN-M", "carn_m_x4", "carn_m.safetensors", 4, 31.8831, _protocol),
        ("CARN-M", "carn_m_x2", "carn_m.safetensors", 2, 37.6784, _protocol),
    )
]
