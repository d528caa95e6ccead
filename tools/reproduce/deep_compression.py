"""Deep Compression (Han, Mao, Dally, ICLR 2016), tables 1 to 5: densities and bits of four networks."""

title = "Deep Compression: rate and error of LeNet-300-100, LeNet-5, AlexNet and VGG-16"
run = "within.core.cli.packing_table:packing_table"
data = "weights as *.safetensors; for the LeNets the four IDX files of MNIST; imagenet/train and imagenet/val"

# The published errors are of other trained weights than yours; compare the difference between before and after.
_lenets = dict(
    rounds=4, retraining=20_000, early_share=0.25, sharing=4000, distillation=dict(temperature=2.0, weight=0.5)
)
_imagenet = dict(
    data="tools.data.image_folders:imagenet_training",
    evaluate="tools.data.image_folders:imagenet_error",
    batch_size=256,
    rounds=4,
    retraining=100_000,
    early_share=0.25,
    retraining_rate=2e-5,
    sharing=20_000,
    sharing_rate=1e-5,
    distillation=dict(temperature=2.0, weight=0.5),
)
_vgg = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_vgg_density = (0.58, 0.22, 0.34, 0.36, 0.53, 0.24, 0.42, 0.32, 0.27, 0.34, 0.35, 0.29, 0.36)

rows = [
    dict(
        name="LeNet-300-100",
        published=dict(rate=40, before=1.64, after=1.58),
        model=dict(
            factory="tools.benchmarks.networks.lenet:lenet_300_100",
            weights="lenet300_classic_mnist.safetensors",
            names={"output.compressible_0": "1", "output.compressible_1": "3", "output.compressible_2": "5"},
        ),
        density={"1.weight": 0.08, "3.weight": 0.09, "5.weight": 0.26},
        bits=6,
        data="tools.data.mnist:centred_training",
        evaluate="tools.data.mnist:centred_error",
        **_lenets,
    ),
    dict(
        name="LeNet-5",
        published=dict(rate=39, before=0.80, after=0.74),
        model=dict(factory="tools.benchmarks.networks.lenet:lenet_5", weights="lenet5_mnist.safetensors"),
        density={"0.weight": 0.66, "2.weight": 0.12, "5.weight": 0.08, "7.weight": 0.19},
        bits={"[02].weight": 8, "[57].weight": 5},
        data="tools.data.mnist:scaled_training",
        evaluate="tools.data.mnist:scaled_error",
        **_lenets,
    ),
    dict(
        name="AlexNet",
        published=dict(rate=35, before=42.78, after=42.78),
        model=dict(factory="torchvision.models:alexnet", weights="alexnet.safetensors"),
        density={
            "features.0.weight": 0.84,
            "features.3.weight": 0.38,
            "features.6.weight": 0.35,
            "features.8.weight": 0.37,
            "features.10.weight": 0.37,
            "classifier.1.weight": 0.09,
            "classifier.4.weight": 0.09,
            "classifier.6.weight": 0.25,
        },
        bits={"features.*": 8, "classifier.*": 5},
        **_imagenet,
    ),
    dict(
        name="VGG-16",
        published=dict(rate=49, before=31.50, after=31.17),
        model=dict(factory="torchvision.models:vgg16", weights="vgg16.safetensors"),
        density={
            **{f"features.{layer}.weight": share for layer, share in zip(_vgg, _vgg_density)},
            "classifier.0.weight": 0.04,
            "classifier.3.weight": 0.04,
            "classifier.6.weight": 0.23,
        },
        bits={"features.*": 8, "classifier.*": 5},
        **_imagenet,
    ),
]
