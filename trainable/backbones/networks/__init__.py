"""Networks that neither timm nor torchvision has, one file each; every file of this folder is enrolled."""

import importlib
import pkgutil

from trainable.backbones.networks._base import ARCHITECTURES, Architecture, Network, Shape

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["ARCHITECTURES", "Architecture", "Network", "Shape"]
