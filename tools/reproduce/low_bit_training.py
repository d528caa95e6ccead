"""Low-bit training in the MLS tensor format (Zhong et al., arXiv 2006.02804): ResNet-20 on CIFAR-10."""

title = "MLS low-bit training: ResNet-20 on CIFAR-10, top-1 in %"
run = "within.core.cli.low_bit_table:low_bit_table"
data = "data_batch_1.bin to data_batch_5.bin and test_batch.bin of CIFAR-10"

# The claim of the abstract: training in <2,1> loses less than 1 % of accuracy. The schedule is that of He et al., 2016.
factory = "tools.benchmarks.networks.cifar_resnet:CifarResNet"
arguments = dict(depth=20)
training = "tools.data.cifar10:training"
evaluate = "tools.data.cifar10:accuracy"
settings = dict(
    iterations=64_000,
    batch_size=128,
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-4),
    schedule=dict(type="MultiStepLR", milestones=[32_000, 48_000], gamma=0.1),
)

rows = [
    dict(name="float32", format=None, published="91.25 (He et al.)"),
    dict(name="<2,1>", format=(2, 1), published="within 1 point of float32"),
    dict(name="<2,4>", format=(2, 4), published="within 1 point of float32"),
]
