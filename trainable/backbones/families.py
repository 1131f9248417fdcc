"""The families of networks that the sources of this project name, and the names that build them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """A family of networks.

    Attributes:
        name: As papers call it.
        names: What builds its members, the smallest first.
        reference: Authors, year, arXiv id.
        note: What else a configuration says, or what differs from the paper.
    """

    name: str
    names: tuple[str, ...]
    reference: str
    note: str = ""


FAMILIES = (
    Family("VGG", ("vgg11_bn", "vgg16_bn", "vgg19_bn"), "Simonyan and Zisserman 2015, arXiv 1409.1556"),
    Family(
        "GoogLeNet",
        ("torchvision:googlenet",),
        "Szegedy et al. 2015, arXiv 1409.4842",
        "with batch norm, without auxiliary heads",
    ),
    Family("Inception v3", ("inception_v3",), "Szegedy et al. 2016, arXiv 1512.00567"),
    Family("Inception v4", ("inception_v4",), "Szegedy et al. 2017, arXiv 1602.07261"),
    Family("Inception-ResNet v2", ("inception_resnet_v2",), "Szegedy et al. 2017, arXiv 1602.07261"),
    Family("Xception", ("legacy_xception", "xception41"), "Chollet 2017, arXiv 1610.02357"),
    Family(
        "ResNet",
        ("cifarresnet-20", "cifarresnet-110", "resnet10t", "resnet18", "resnet50", "resnet101"),
        "He et al. 2016, arXiv 1512.03385",
        "`cifarresnet` is the paper's own for CIFAR",
    ),
    Family("ResNeXt", ("resnext50_32x4d", "resnext101_32x4d"), "Xie et al. 2017, arXiv 1611.05431"),
    Family(
        "pre-activation ResNet",
        ("preactresnet-20", "preactresnet-110", "preactresnet-bottleneck-164", "resnetv2_50"),
        "He et al. 2016, arXiv 1603.05027",
    ),
    Family(
        "stochastic depth",
        ("cifarresnet-56", "cifarresnet-110"),
        "Huang et al. 2016, arXiv 1603.09382",
        "with `drop_path_rate: 0.5`; blocks drop image by image",
    ),
    Family(
        "wide ResNet",
        ("wideresnet-16-2", "wideresnet-28-10", "wideresnet-40-10"),
        "Zagoruyko and Komodakis 2016, arXiv 1605.07146",
    ),
    Family(
        "ResNet in ResNet",
        ("rir-16", "rir-96"),
        "Targ et al. 2016, arXiv 1603.08029",
        "`rir-96` is the paper's",
    ),
    Family(
        "residual attention",
        ("residualattention-56-x0.25", "residualattention-56-x1.0", "residualattention-92-x1.0"),
        "Wang et al. 2017, arXiv 1704.06904",
        "table 2's networks; the stem fitted to small images as a ResNet's",
    ),
    Family("DenseNet", ("densenet121", "densenet169"), "Huang et al. 2017, arXiv 1608.06993"),
    Family(
        "ShuffleNet v1",
        ("shufflenet-g3-x0.5", "shufflenet-g3-x1.0", "shufflenet-g8-x1.0"),
        "Zhang et al. 2018, arXiv 1707.01083",
    ),
    Family(
        "ShuffleNet v2",
        ("torchvision:shufflenet_v2_x0_5", "torchvision:shufflenet_v2_x1_0"),
        "Ma et al. 2018, arXiv 1807.11164",
    ),
    Family("MobileNet v1", ("mobilenetv1_100",), "Howard et al. 2017, arXiv 1704.04861"),
    Family("MobileNet v2", ("mobilenetv2_035", "mobilenetv2_100"), "Sandler et al. 2018, arXiv 1801.04381"),
    Family("SENet", ("seresnet18", "seresnet50"), "Hu et al. 2018, arXiv 1709.01507"),
    Family(
        "SqueezeNet",
        ("torchvision:squeezenet1_1", "torchvision:squeezenet1_0"),
        "Iandola et al. 2016, arXiv 1602.07360",
    ),
    Family("NASNet", ("nasnetalarge",), "Zoph et al. 2018, arXiv 1707.07012"),
    Family("EfficientNet", ("efficientnet_b0", "efficientnet_b2"), "Tan and Le 2019, arXiv 1905.11946"),
    Family(
        "EfficientNetV2",
        ("tf_efficientnetv2_b0", "tf_efficientnetv2_b2", "tf_efficientnetv2_s"),
        "Tan and Le 2021, arXiv 2104.00298",
    ),
    Family(
        "ConvNeXt", ("convnext_atto", "convnext_tiny", "convnext_base"), "Liu et al. 2022, arXiv 2201.03545"
    ),
    Family(
        "ViT", ("vit_tiny_patch16_224", "vit_small_patch16_224"), "Dosovitskiy et al. 2021, arXiv 2010.11929"
    ),
    Family("Swin", ("swin_tiny_patch4_window7_224",), "Liu et al. 2021, arXiv 2103.14030"),
    Family("CaiT", ("cait_xxs24_224", "cait_s24_224"), "Touvron et al. 2021, arXiv 2103.17239"),
)
