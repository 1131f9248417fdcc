"""Each term against its paper's formula, worked by hand, and against its limit cases."""

from __future__ import annotations

import math

import pytest
import timm
import torch

from trainable.backbones.taps import Taps, intermediate_stages, spatial_mean
from trainable.techniques.consistency import jensen_shannon
from trainable.techniques.contrastive import supervised_contrast
from trainable.techniques.distillation import softened_divergence
from trainable.techniques.progressive_resizing import Linear


def test_supervised_contrast_by_hand() -> None:
    """Three unit vectors, the first two of one class; the third has no partner."""
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    losses = supervised_contrast(z, torch.tensor([4, 4, 7]), temperature=0.5)
    # Similarities / τ: (1,2) 0, (1,3) -2, (2,3) 0.
    first = -(0.0 - math.log(math.exp(0.0) + math.exp(-2.0)))
    second = -(0.0 - math.log(math.exp(0.0) + math.exp(0.0)))
    torch.testing.assert_close(losses, torch.tensor([first, second, 0.0]))


def test_supervised_contrast_averages_over_positives() -> None:
    """The mean over positives stands outside the logarithm (L_out, equation 2)."""
    torch.manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(6, 3), dim=1)
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    expected = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        normaliser = sum(math.exp(float(z[i] @ z[j]) / 0.2) for j in others)
        positives = [j for j in others if labels[j] == labels[i]]
        terms = [-math.log(math.exp(float(z[i] @ z[j]) / 0.2) / normaliser) for j in positives]
        expected.append(sum(terms) / len(terms) if terms else 0.0)
    torch.testing.assert_close(supervised_contrast(z, labels, 0.2), torch.tensor(expected))


def test_a_batch_of_one_image_has_no_contrast_and_finite_gradients() -> None:
    z = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = supervised_contrast(z, torch.tensor([0]), 0.1).sum()
    loss.backward()
    assert loss.item() == 0.0
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_jensen_shannon_limits() -> None:
    """0 where the views agree; log 3 where three views are sure of three different classes."""
    agreeing = torch.randn(4, 1, 5).expand(4, 3, 5)
    torch.testing.assert_close(jensen_shannon(agreeing), torch.zeros(4), atol=1e-6, rtol=0)
    sure = (torch.eye(3) * 60)[None]
    torch.testing.assert_close(jensen_shannon(sure), torch.tensor([math.log(3.0)]))


def test_jensen_shannon_by_hand() -> None:
    p, q = (0.75, 0.25), (0.25, 0.75)
    logits = torch.tensor([[p, q]]).log()
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    torch.testing.assert_close(jensen_shannon(logits), torch.tensor([divergence]))


def test_distillation_by_hand() -> None:
    """T = 2 and logits 2·log p: the softened answers are p and q themselves."""
    teacher, student = torch.tensor([[0.9, 0.1]]).log() * 2, torch.tensor([[0.5, 0.5]]).log() * 2
    expected = 4.0 * (0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5))
    torch.testing.assert_close(softened_divergence(student, teacher, 2.0), torch.tensor([expected]))
    torch.testing.assert_close(softened_divergence(teacher, teacher, 3.0), torch.zeros(1))


def test_distillation_at_high_temperature_matches_logits() -> None:
    """Section 2.1: for T → ∞ it is half the squared difference of centred logits, divided by K."""
    student, teacher = torch.tensor([[1.0, -1.0, 0.0]]), torch.tensor([[0.0, 2.0, -2.0]])
    limit = ((student - teacher) ** 2).mean(dim=1) / 2
    close = softened_divergence(student.double(), teacher.double(), 100.0)
    torch.testing.assert_close(close, limit, atol=0.05, rtol=0)


def test_sizes_grow_to_the_whole_image_and_stay() -> None:
    growth = Linear(start=0.5, full_at=0.5)
    sizes = [growth.size_at(epoch, 8, (60, 80)) for epoch in range(8)]
    assert sizes == [(30, 40), (38, 50), (44, 60), (52, 70), *[(60, 80)] * 4]
    assert growth.size_at(0, 1, (60, 80)) == (60, 80), "the last epoch is whole, even the only one"
    assert Linear(start=1.0).size_at(0, 9, (7, 9)) == (7, 9)
    assert Linear(start=0.01, full_at=0.9).size_at(0, 9, (8, 3)) == (4, 3)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 4, 5, 3), (2, 20, 3)], ids=["NCHW", "NHWC", "tokens"])
def test_spatial_mean(shape: tuple[int, ...]) -> None:
    x, channel = torch.randn(shape), shape.index(3)
    expected = torch.stack([x.select(channel, c).flatten(1).mean(1) for c in range(3)], dim=1)
    torch.testing.assert_close(spatial_mean(x, 3), expected)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
def test_taps_read_what_the_network_computes(name: str) -> None:
    model = timm.create_model(name, num_classes=5).eval()
    side = 160 if name == "test_vit" else 64
    taps = Taps(model, 2, pooled=True)
    images = torch.randn(2, 3, side, side)
    with torch.no_grad(), taps.reading() as catch:
        logits = model(images)
    assert taps.classifier is not None
    assert catch.pooled is not None
    assert catch.pooled.shape == (2, taps.pooled_width)
    torch.testing.assert_close(taps.classifier(catch.pooled), logits)
    assert [catch.stages[number].shape for number in (0, 1)] == [(2, width) for width in taps.widths]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_stages_of_a_plain_stack_cut_it_into_four() -> None:
    with torch.device("meta"):
        model = timm.create_model("vit_tiny_patch16_224")
    assert [stage.module for stage in intermediate_stages(model)] == ["blocks.2", "blocks.5", "blocks.8"]
