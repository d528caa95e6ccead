"""FFDNet for colour images; all else as for gray ones."""

_base_ = "ffdnet_gray.py"
name = "ffdnet_color"
network = "ffdnet_color"
train = {"color": "rgb"}
validation = {"gt": "Kodak24", "protocol": None, "sigma": 25}
