"""FFDNet for gray images (Zhang, Zuo, Zhang, TIP 2018) as KAIR trains it: random patches of 64, sigma from 0 to 75,
which the network is told, L1, Adam 1e-4 halved at five milestones.
"""

name = "ffdnet_gray"
network = "ffdnet_gray"
train = {"gt": "trainH", "sigma": (0, 75), "patch_size": 64, "color": "gray"}
validation = {"gt": "BSD68", "protocol": "bsd68_sigma25_kair", "every": 5000}
loss = {"type": "l1"}
batch_size = 64
optimizer = {"type": "Adam", "lr": 1e-4}
schedule = {"type": "MultiStepLR", "milestones": [200_000, 400_000, 600_000, 800_000, 1_000_000], "gamma": 0.5}
iterations = 1_200_000
