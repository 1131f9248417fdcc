import pytest

from analysis.errors import UsageError
from search_spaces.recipe_book import list_recipes, load_recipe
from trainable.config import TrialConfig


@pytest.mark.parametrize("entry", list_recipes(), ids=lambda entry: entry.name)
def test_a_recipe_is_a_whole_configuration_with_a_source(entry) -> None:
    config = load_recipe(entry.name)
    assert config.name == entry.name
    assert entry.source
    assert entry.summary
    assert TrialConfig.from_yaml(config.to_yaml()) == config


def test_the_first_recipe_is_what_its_source_says() -> None:
    config = load_recipe("v1")
    assert config.backbone.name.startswith("efficientnet_b0")
    assert config.backbone.pretrained
    assert (config.sampler.name, config.class_weights.name) == ("balanced", "inverse_frequency")
    assert (config.schedule.name, config.schedule.factor, config.schedule.patience) == ("plateau", 0.1, 3)
    assert {op.name for op in config.augment} == {"flip", "rotation", "brightness"}


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown recipe 'v2x'"):
        load_recipe("v2x")


GEOMETRIC = ("flip", "rotation", "brightness")
SMOOTHED = {"loss": "label_smoothing", "loss.epsilon": 0.1}
V2 = {
    "backbone": "convnext_base.fb_in22k",
    **SMOOTHED,
    "schedule": "cosine",
    "schedule.warmup_epochs": 2,
    "averaging": "swa",
    "averaging.every": 2,
    "averaging.anneal_epochs": 5,
    "mixing.p_mixup": 0.25,
    "mixing.p_cutmix": 0.5,
    "mixing.mixup_alpha": 0.2,
    "augment": GEOMETRIC,
}
CROPPED = ("crop", "flip", "rotation")
LADDER = {"epochs": 200, "schedule": "cosine", "schedule.warmup_epochs": 1}
SAM = {**LADDER, "optimizer": "sam", "augment": (*CROPPED, "erasing", "auto_augment")}
SAID: dict[str, dict[str, object]] = {
    "v2": V2,
    "v2.1": V2
    | {
        "data.folds": 3,
        "tta": "flips_scales",
        "optimizer": "adamw",
        "optimizer.lr": 1e-4,
        "optimizer.weight_decay": 1e-2,
        "optimizer.beta1": 0.9,
        "optimizer.beta2": 0.999,
        "optimizer.eps": 1e-8,
        "training.clip_norm": 5.0,
        "training.early_stopping": 5,
        "training.min_delta": 1e-4,
    },
    "v3": {
        "backbone": "tf_efficientnetv2_b2.in1k",
        "loss": "focal",
        "loss.gamma": 2.0,
        "class_weights": "effective_number",
        "class_weights.beta": 0.9999,
        "sampler": "dynamic",
        "optimizer": "adamw",
        "schedule": "one_cycle",
        "schedule.pct_start": 0.1,
        "schedule.div_factor": 25.0,
        "schedule.final_div_factor": 1000.0,
        "data.folds": "auto",
        "training.clip_norm": 5.0,
        "augment": GEOMETRIC,
    },
    "v4": {
        "backbone": "convnext_base.fb_in22k",
        "sampler": "balanced",
        "class_weights": "none",
        "mixing": "mixup_or_cutmix",
        "mixing.mixup_alpha": 0.2,
        "mixing.cutmix_alpha": 1.0,
        "deep_supervision": "stages",
        "deep_supervision.auxiliary": 3,
        "deep_supervision.weight": 0.3,
        "averaging": "ema",
        "training.accumulate": 2,
        "augment": GEOMETRIC,
    },
    "cifar-01": {
        **LADDER,
        "backbone": "resnet18",
        "optimizer": "sgd",
        "loss": "cross_entropy",
        "augment": CROPPED,
    },
    "cifar-02": {**LADDER, "backbone": "resnet50", "optimizer": "sgd", "augment": CROPPED},
    "cifar-03": {**LADDER, "backbone": "resnet101", "optimizer": "sgd", "augment": CROPPED},
    "cifar-04": {**LADDER, "backbone": "resnet50", "optimizer": "sgd", "augment": (*CROPPED, "erasing")},
    "cifar-05": SAM | {"backbone": "resnet50", "optimizer": "sgd", "loss": "cross_entropy"},
    "cifar-06": SAM | {"backbone": "resnet50", "optimizer": "adam"},
    "cifar-07": SAM | {"backbone": "resnet50", "optimizer": "ranger"},
    "cifar-08": SAM | {"backbone": "resnet50", "loss": "cross_entropy"},
    "cifar-09": SAM | {"backbone": "resnet50", **SMOOTHED},
    "cifar-10": SAM | {"backbone": "wideresnet-40-10", **SMOOTHED, "tta": "none"},
    "cifar-11": SAM | {"backbone": "wideresnet-40-10", **SMOOTHED, "tta": "flips"},
    "aug-1": {"augment": CROPPED},
    "aug-2": {"augment": (*CROPPED, "erasing")},
    "aug-3": {"augment": (*CROPPED, "erasing", "auto_augment")},
}


@pytest.mark.parametrize("name", SAID)
def test_a_recipe_is_what_its_source_says(name: str) -> None:
    plain = load_recipe(name).model_dump()
    found = {}
    for path in SAID[name]:
        value = plain
        for key in path.split("."):
            value = value[key]
        if path == "augment":
            value = tuple(op["name"] for op in value)
        found[path] = value["name"] if isinstance(value, dict) else value
    assert found == SAID[name]
