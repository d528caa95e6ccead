"""NAFNet of width 64 on GoPro deblurring: twice the batch, twice the iterations."""

_base_ = "nafnet_gopro_w32.py"
name = "nafnet_gopro_w64"
network = "nafnet_gopro_w64"
batch_size = 64
schedule = {"T_max": 400_000}
iterations = 400_000
