"""All stages to half of their widths, fine-tuned with the dense network as teacher, and quantised to 8 bits."""

network = "runs/swiftnet_rn18"
data = "data/cityscapes"
stages = (1, 2, 3, 4)
fraction = 0.5
size = (512, 1024)
distillation = 0.5
fp16 = True
fine_tuning = dict(epochs=60, batch_size=14, crop=768)
