"""Fusion of features across stages: the classifier sees what the stages before the last have found as well."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainable.backbones.taps import Taps, classifier_of


class FusedNetwork(nn.Module):
    """A network under a classifier of the pooled features of all its stages; the same methods as a timm model.

    The spatial means of the stages before the last, each behind a layer norm, stand beside the features of the
    network's own head (`concat`), or are brought to their width by a linear layer and added to them (`sum`).

    Args:
        network: With stages, timm's methods and one linear classifier, which goes.
        how: `concat` or `sum`.
        num_classes: Outputs.
        num_stages: Stages before the last that can be read, counted from the last one backwards.

    Reference: Hariharan et al. 2015, arXiv 1411.5752 (hypercolumns), for whole images; Lin et al. 2017,
        arXiv 1612.03144, section 3, for the sum.
    """

    def __init__(
        self, network: nn.Module, how: Literal["concat", "sum"], num_classes: int, num_stages: int
    ) -> None:
        super().__init__()
        classifier = classifier_of(network)
        assert isinstance(classifier, nn.Linear), "refused where the backbone was checked"
        self.last_features = classifier.in_features
        self.network, self.how = network, how
        timm_model: Any = network  # nn.Module does not declare timm's methods
        timm_model.reset_classifier(0)
        self._taps = Taps(network, num_stages)
        widths = self._taps.widths
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.lateral = nn.ModuleList(
            nn.Linear(width, self.last_features, bias=False) if how == "sum" else nn.Identity()
            for width in widths
        )
        self.num_features = self.last_features + (sum(widths) if how == "concat" else 0)
        self.feature_info = [
            {**stage, "module": f"network.{stage['module']}"}
            for stage in timm_model.feature_info
            if stage.get("module")
        ]
        self.reset_classifier(num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)`."""
        network: Any = self.network
        with self._taps.reading() as catch:
            last: Tensor = network.forward_head(network.forward_features(images), pre_logits=True)
        earlier = [
            lateral(norm(catch.stages[number]))
            for number, (norm, lateral) in enumerate(zip(self.norms, self.lateral, strict=True))
        ]
        fused = torch.cat((last, *earlier), dim=1) if self.how == "concat" else sum(earlier, start=last)
        logits: Tensor = self.classifier(fused)
        return logits

    def get_classifier(self) -> nn.Linear:
        """Return the last layer."""
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by one with `num_classes` outputs and new weights."""
        self.num_classes = num_classes
        self.classifier = nn.Linear(self.num_features, num_classes)
