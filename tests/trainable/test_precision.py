"""What bf16 leaves in fp32 on a CPU, and what `precision: auto` chooses, keeps and leaves alone."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from analysis.records import RecordFolder
from tests.trainable.test_loop import small
from trainable import precision_choice, state
from trainable.backbones import build_backbone
from trainable.config import TrialConfig
from trainable.cpu_kernels import quicken
from trainable.loop import fit
from trainable.precision import MANY_OUTPUTS, Precision, keep_in_fp32, wants_channels_last
from trainable.state import TrialState

CPU = torch.device("cpu")


class Mixed(nn.Module):
    """A plain, a depthwise, a pointwise convolution, and one over a single pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(1, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.pointwise = nn.Conv2d(8, 8, 1, groups=8)
        self.last = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mapped = self.pointwise(self.depthwise(self.plain(images)))
        return self.last(functional.adaptive_avg_pool2d(mapped, 1)).flatten(1)


def test_depthwise_and_single_pixel_convolutions_compute_in_fp32():
    model = Mixed()
    assert keep_in_fp32(model, (8, 8), 1) == ["depthwise", "last"]
    seen = {}
    for name, module in model.named_children():
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.dtype}))
    with Precision("bf16", channels_last=True).autocast(CPU):
        model(torch.rand(2, 1, 8, 8))
    half, full = torch.bfloat16, torch.float32
    assert seen == {"plain": half, "depthwise": full, "pointwise": half, "last": full}


def test_what_is_kept_once_is_not_wrapped_again():
    model = Mixed()
    keep_in_fp32(model, (8, 8), 1)
    assert keep_in_fp32(model, (4, 4), 1) == []


def test_kept_convolutions_round_as_fp32_does():
    conv = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    images = torch.rand(2, 8, 6, 6)
    wanted = conv(images)
    keep_in_fp32(nn.Sequential(conv), (6, 6), 8)
    with Precision("bf16", channels_last=True).autocast(CPU):
        assert torch.equal(conv(images), wanted)


def auto(**fields) -> TrialConfig:
    return TrialConfig.model_validate({"backbone": "test_resnet", "epochs": 1, **fields})


needs_bf16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor computes bf16 no faster than fp32"
)


@needs_bf16
def test_the_timing_leaves_the_network_as_it_was(digits, split, tmp_path):
    timed = TrialState(auto(), digits, split, CPU, cache_dir=tmp_path).model.state_dict()
    plain = TrialState(auto(training={"precision": "fp32"}), digits, split, CPU).model.state_dict()
    assert timed.keys() == plain.keys()
    assert all(torch.equal(timed[key], plain[key]) for key in plain)


@needs_bf16
@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_choice_is_kept_for_trials_of_the_same_network(digits, split, tmp_path, monkeypatch, name):
    TrialState(auto(), digits, split, CPU, cache_dir=tmp_path)
    file = tmp_path / "precision.json"
    known = json.loads(file.read_text())
    assert len(known) == 1
    file.write_text(json.dumps(dict.fromkeys(known, name)))
    monkeypatch.setattr(precision_choice, "faster_precision", None)  # calling it would raise
    other = auto(optimizer="adamw", backbone={"name": "test_resnet", "drop_rate": 0.3})
    assert TrialState(other, digits, split, CPU, cache_dir=tmp_path).precision.name == name


@needs_bf16
def test_a_choice_is_not_taken_over_for_another_size(digits, split, tmp_path):
    for data in ({}, {"image_size": [16, 16]}):
        TrialState(auto(data=data), digits, split, CPU, cache_dir=tmp_path)
    assert len(json.loads((tmp_path / "precision.json").read_text())) == 2


class Turning(nn.Module):
    """A depthwise convolution over maps that the network itself has laid out channels-last."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.depthwise(images.contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize(
    ("model", "channels", "num_images", "wants"),
    [
        (Mixed(), 1, 1000, False),
        (Mixed(), 1, MANY_OUTPUTS, True),
        (Turning(), 8, 1000, True),
        (nn.Conv2d(8, 16, 3, groups=2), 8, 1000, True),
        (nn.Conv2d(1, 16, 3), 1, 1000, True),
    ],
)
def test_depthwise_networks_stay_contiguous_on_a_gpu_for_few_images(model, channels, num_images, wants):
    """Their channels-last kernels would be compiled for seconds."""
    assert wants_channels_last(model, (8, 8), channels, torch.device("cuda"), num_images) is wants
    assert wants_channels_last(model, (8, 8), channels, CPU, num_images)


@pytest.mark.parametrize(
    ("changes", "share", "wants"),
    [
        ({}, 0.99, False),
        ({}, 1.01, True),
        ({"data": {"folds": 4}}, 0.26, True),
        ({"frozen": "features", "backbone": {"name": "mobilenetv3_small_050", "pretrained": True}}, 2, False),
        ({"training": {"precision": "fp16"}}, 0, True),
        ({"backbone": "test_resnet"}, 0, True),
    ],
)  # fmt: skip
def test_a_trial_counts_what_its_depthwise_convolutions_will_put_out(changes, share, wants):
    """`share`: of the numbers from which on channels-last is quicker."""
    changes = {"backbone": "mobilenetv3_small_050", "training": {"precision": "bf16"}, **changes}
    config = TrialConfig.model_validate({"epochs": 40, **changes})
    model = build_backbone(config.backbone.model_copy(update={"pretrained": False}), 10, (32, 32), 3)
    outputs = 0

    def count(conv, inputs, output):
        nonlocal outputs
        outputs += output.numel() if conv.groups > 1 else 0

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d)]
    model.eval()(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    num_images = int(share * MANY_OUTPUTS / max(1, outputs) / 40)
    gpu = torch.device("cuda")
    found = precision_choice.resolve_precision(config, model, (32, 32), 3, num_images, gpu, None)
    assert found == Precision(config.training.precision, channels_last=wants)


@pytest.mark.parametrize(
    ("backbone", "num_images", "supported", "wanted"),
    [
        ("mobilenetv3_small_050", 1000, True, Precision("fp32", channels_last=False)),
        ("mobilenetv3_small_050", MANY_OUTPUTS, True, Precision("bf16", channels_last=True)),
        ("mobilenetv3_small_050", 1000, False, Precision("fp16", channels_last=True)),
        ("test_resnet", 1000, True, Precision("bf16", channels_last=True)),
        ("test_resnet", 1000, False, Precision("fp16", channels_last=True)),
    ],
)
def test_auto_on_a_gpu_is_fp32_where_maps_stay_contiguous_and_half_as_wide_elsewhere(
    backbone, num_images, supported, wanted, monkeypatch
):
    """Contiguous depthwise kernels are as quick in fp32, which loads sooner. Emulated bf16 does not count."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or supported
    )
    config = auto(backbone=backbone)
    model, gpu = build_backbone(config.backbone, 10, (32, 32), 3), torch.device("cuda")
    assert precision_choice.resolve_precision(config, model, (32, 32), 3, num_images, gpu, None) == wanted


def test_a_resumed_trial_keeps_its_layout(digits, split, tmp_path, monkeypatch):
    record, config = RecordFolder(tmp_path), small(epochs=2)
    monkeypatch.setattr(state, "resolve_precision", lambda *_: Precision("fp32", channels_last=False))
    for _ in fit(config, digits, split, record=record, checkpoint_seconds=0, device="cpu"):
        break
    monkeypatch.undo()
    list(fit(config, digits, split, record=record, checkpoint_seconds=0, device="cpu"))
    assert record.summary.epoch == 2
    assert record.summary.auto["channels_last"] is False


def timed_by(monkeypatch, shares):
    """Have bf16 take `shares` of fp32's time, the third round without fp32; return the rounds so far."""
    rounds = []

    def clock():
        for share in shares:
            rounds.append(share)
            yield from (0.0, share) if len(rounds) == 3 else (0.0, 1.0, 0.0, share)

    ticks = clock()
    monkeypatch.setattr(precision_choice, "time", SimpleNamespace(process_time=lambda: next(ticks)))
    return rounds


@pytest.mark.parametrize(
    ("shares", "worth", "wanted", "rounds"),
    [
        ([0.5, 0.5, 9.0], 0.95, "bf16", 2),
        ([0.94, 0.94, 9.0], 0.95, "bf16", 2),
        ([0.97, 0.97, 0.97], 0.95, "fp32", 3),
        ([0.97, 0.97, 9.0], 1.05, "bf16", 2),
        ([1.1, 1.1, 1.1], 1.05, "fp32", 3),
        ([1.1, 1.1, 0.9], 1.05, "bf16", 3),
        ([1.3, 1.3, 0.1], 1.05, "fp32", 2),
        ([1.7, 0.1, 0.1], 1.05, "fp32", 1),
    ],
)
def test_the_timing_decides_and_ends_where_it_is_clear(monkeypatch, shares, worth, wanted, rounds):
    done = timed_by(monkeypatch, shares)
    assert precision_choice.faster_precision(nn.Conv2d(1, 4, 3), (8, 8), 1, worth) == wanted
    assert len(done) == rounds


@pytest.mark.parametrize("wanted", ["fp32", "bf16"])
@pytest.mark.parametrize("network", ["mobilenetv3_small_050", "test_resnet"])
def test_what_was_timed_is_left_as_it_was(monkeypatch, network, wanted):
    """Weights, statistics, mode and the format that each convolution follows."""
    config = auto(backbone=network)
    model = build_backbone(config.backbone, 10, (32, 32), 3).eval()
    quicken(model, config)
    model.register_buffer("steps", torch.zeros(()), persistent=False)

    def count(network, inputs, output):
        network.steps += network.training

    model.register_forward_hook(count)
    before = {key: value.clone() for key, value in [*model.named_parameters(), *model.named_buffers()]}
    own = {name for name, module in model.named_modules() if "forward" in vars(module)}
    timed_by(monkeypatch, [0.5, 0.5] if wanted == "bf16" else [2.0])
    assert precision_choice.faster_precision(model, (32, 32), 3, 0.95) == wanted
    for key, value in [*model.named_parameters(), *model.named_buffers()]:
        assert torch.equal(value, before[key]), key
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training
    assert {name for name, module in model.named_modules() if "forward" in vars(module)} == own
    assert keep_in_fp32(model, (32, 32), 3) or network == "test_resnet"


@pytest.mark.parametrize(
    ("fields", "worth"),
    [
        ({"batch_size": 32}, 0.95),
        ({"batch_size": 64}, 1.05),
        ({"batch_size": 128, "training": {"accumulate": 4}}, 0.95),
        ({"batch_size": 128, "training": {"accumulate": 2}}, 1.05),
    ],
)
def test_a_tie_goes_to_bf16_where_passes_are_larger_than_what_is_timed(monkeypatch, fields, worth):
    asked = []
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr(precision_choice, "faster_precision", lambda *given: asked.append(given[3]) or "fp32")
    monkeypatch.setattr(precision_choice, "_MEMORY", {})
    precision_choice.resolve_precision(auto(**fields), Mixed(), (8, 8), 1, 100, CPU, None)
    assert asked == [worth]


def test_choices_are_kept_apart_by_worth_and_by_compilation(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr(precision_choice, "faster_precision", lambda *_: "fp32")
    for fields in ({"batch_size": 32}, {"batch_size": 64}, {"batch_size": 96}, {"training": {"compile": True}}):
        config = auto(**{"batch_size": 64, **fields})
        precision_choice.resolve_precision(config, Mixed(), (8, 8), 1, 100, CPU, tmp_path)
    assert len(json.loads((tmp_path / "precision.json").read_text())) == 3
