"""BasicSR's recipe for MSRResNet and RRDBNet: L1, Adam 2e-4, four cosine cycles of 250k iterations."""

loss = {"type": "l1"}
batch_size = 16
optimizer = {"type": "Adam", "lr": 2e-4, "betas": (0.9, 0.99)}
schedule = {"type": "CosineRestartLR", "periods": [250_000] * 4, "restart_weights": [1, 1, 1, 1], "eta_min": 1e-7}
iterations = 1_000_000
ema = 0.999
