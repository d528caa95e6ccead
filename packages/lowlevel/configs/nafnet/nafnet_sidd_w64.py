"""NAFNet of width 64 on SIDD: twice the batch, twice the iterations."""

_base_ = "nafnet_sidd_w32.py"
name = "nafnet_sidd_w64"
network = "nafnet_sidd_w64"
batch_size = 64
schedule = {"T_max": 400_000}
iterations = 400_000
workers = 8
