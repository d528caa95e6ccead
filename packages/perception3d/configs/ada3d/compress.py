"""Ada3D with drop rates and widths chosen for a fifth of the dense multiply-accumulates, then trained on."""

network = "runs/ada3d_importance"
data = "data/kitti"
macs = 0.2
widths = (1.0, 0.75, 0.5)
tuning = dict(epochs=40, batch_size=16, division=1.0, workers=8)
