"""BasicSR's recipe for EDSR: L1, Adam 1e-4 halved after 200k of 300k iterations, averaged weights."""

loss = {"type": "l1"}
batch_size = 16
optimizer = {"type": "Adam", "lr": 1e-4, "betas": (0.9, 0.99)}
schedule = {"type": "MultiStepLR", "milestones": [200_000], "gamma": 0.5}
iterations = 300_000
ema = 0.999
