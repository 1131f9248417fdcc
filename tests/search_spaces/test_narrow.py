"""YAML narrows a space, and every mistake in it is refused with its path, its law and the nearest name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.errors import UsageError
from search_spaces.declared import DeclaredSpace
from search_spaces.space import load_space
from trainable.component import Choices, Range

Read = Callable[[str], DeclaredSpace]


def test_the_example_of_the_documentation(read: Read) -> None:
    space = read(
        """
        extends: default
        backbone: {choices: [resnet18, efficientnet_b0], pretrained: false}
        loss:
          choices: [cross_entropy, focal]
          focal: {gamma: {low: 0.5, high: 3.0}}
        optimizer:
          choices: [sgd, sam]
          sgd: {lr: {low: 0.003, high: 0.3, log: true}, momentum: 0.9}
        schedule: cosine
        allow: [balanced_sampler+inverse_frequency]
        """
    )
    default = load_space("default")
    assert isinstance(default, DeclaredSpace)
    assert space.backbones == ("resnet18", "efficientnet_b0")
    assert space.backbone["drop_rate"] == default.backbone["drop_rate"]
    assert list(space.families["loss"]) == ["cross_entropy", "focal"]
    assert space.families["loss"]["focal"]["gamma"] == Range(0.5, 3.0)
    assert space.families["optimizer"]["sgd"]["momentum"] == Choices((0.9,))
    assert space.families["optimizer"]["sam"] == default.families["optimizer"]["sam"]
    assert space.families["schedule"] == {"cosine": default.families["schedule"]["cosine"]}
    assert space.families["sampler"] == default.families["sampler"]
    assert space.allow == ("balanced_sampler+inverse_frequency",)


def test_without_extends_what_is_not_named_is_pinned(read: Read) -> None:
    space = read("optimizer: sgd")
    assert isinstance(space.families["optimizer"]["sgd"]["lr"], Range)
    assert space.families["loss"] == {"cross_entropy": {}}
    assert space.settings == {"batch_size": Choices((128,))}
    assert space.backbones == ("resnet18",)
    assert space.backbone["drop_rate"] == Choices((0.0,))


def test_augmentation_is_always_optional_or_listed(read: Read) -> None:
    space = read("augment: {always: [flip], choices: [crop, rotation], crop: {padding: 2}}")
    assert (list(space.always), list(space.optional)) == (["flip"], ["crop", "rotation"])
    assert space.optional["crop"]["padding"] == Choices((2,))
    listed = read("augment: [flip, crop]")
    assert (list(listed.always), list(listed.optional)) == (["flip", "crop"], [])
    assert read("augment: []").always == {}
    moved = read("extends: default\naugment: {choices: [flip]}")
    assert (list(moved.always), list(moved.optional)) == ([], ["flip"])


def test_numbers_are_read_as_people_write_them(read: Read) -> None:
    space = read("optimizer: {choices: [sgd], sgd: {lr: {low: 1e-3, high: 1}, weight_decay: 1e-4}}")
    assert space.families["optimizer"]["sgd"]["lr"] == Range(0.001, 1.0, log=True)  # the parent's log stays
    assert space.families["optimizer"]["sgd"]["weight_decay"] == Choices((0.0001,))
    assert read("batch_size: {low: 32, high: 128, step: 32}").settings["batch_size"] == Range(32, 128, step=32)
    nested = read("training: {early_stopping: 3, clip_norm: {choices: [null, 1]}}")
    assert nested.training["early_stopping"] == Choices((3,))
    assert nested.training["clip_norm"] == Choices((None, 1.0))


def test_weights_that_correct_leave_only_neutral_partners(read: Read) -> None:
    space = read("extends: default\nclass_weights: effective_number")
    assert {names[:2] for names in space.chooser.lawful} == {
        (loss, "natural") for loss in ("cross_entropy", "label_smoothing", "focal")
    }


REFUSED = {
    "los: focal": "unknown key 'los'; did you mean 'loss'?",
    "loss: focl": "unknown loss 'focl'; did you mean 'focal'?",
    "loss: {choices: [focal], focal: {gama: 1}}": "unknown key 'loss.focal.gama'; did you mean 'loss.focal.gam",
    "loss: {choices: [focal], cross_entropy: {}}": "loss.cross_entropy: only what may be chosen has parameters",
    "optimizer: {sgd: {lr: {low: 0.1, high: 500}}}": "optimizer.sgd.lr: input should be less than or equal to",
    "optimizer: {sgd: {lr: {low: -1, high: 1, log: false}}}": "optimizer.sgd.lr: input should be greater than",
    "optimizer: {sgd: {lr: {low: 1, high: 0.1}}}": "optimizer.sgd.lr: low must be at most high, got 1.0 and 0.",
    "optimizer: {sgd: {lr: {low: .nan, high: 0.1}}}": "optimizer.sgd.lr.low: must be a finite number, got nan",
    "optimizer: {sgd: {lr: {lo: 0.1, high: 0.2}}}": "unknown key 'optimizer.sgd.lr.lo'; did you mean 'optimize",
    "optimizer: {sgd: {lr: fast}}": "optimizer.sgd.lr: input should be a valid number",
    "optimizer: {sgd: {momentum: {low: 0.5}}}": "optimizer.sgd.momentum: a range has low and high, but high is",
    "optimizer: {sgd: {nesterov: {low: 0, high: 1}}}": "optimizer.sgd.nesterov: only a number has a range",
    "optimizer: {sgd: {nesterov: {choices: []}}}": "optimizer.sgd.nesterov.choices: must be a list with at lea",
    "optimizer: [sgd, {x: 1}]": "optimizer: must be a list of names",
    "optimizer: {choices: []}": "optimizer.choices: must hold at least one name",
    "batch_size: 1": "batch_size: input should be greater than or equal to 2, got 1",
    "batch_size: {low: 1.5, high: 8}": "batch_size.low: must be a whole number, got 1.5",
    "batch_size: {low: 8, high: 64, step: 5}": "batch_size.step: must be above 0 and divide 64 - 8, got 5",
    "backbone: resnet81": "unknown backbone 'resnet81'; did you mean 'resnet18'?",
    "backbone: {choices: [vgg11], drop_path_rate: 0.1}": "backbone.drop_path_rate must be 0 for vgg11",
    "augment: {choices: [rotate]}": "unknown augment 'rotate'; did you mean 'rotation'?",
    "augment: {choices: [erasing], erasing: {max_area: 0.01}}": "augment.erasing.min_area must be at most max_",
    "training: {accumulate: 256}": "training.accumulate: a batch is cut into at most batch_size parts",
    "training: {precison: fp32}": "unknown key 'training.precison'; did you mean 'training.precision'?",
    "allow: [balanced_sampler+inverse]": "unknown rule in allow: 'balanced_sampler+inverse'; did you mean",
    "extends: defaults": "unknown space in extends: 'defaults'; did you mean 'default'?",
    "sampler: balanced\nclass_weights: inverse_frequency": "some loss, sampler, class weights and mixing",
    "loss: !!python/object/apply:os.system [true]": "must be plain YAML without code",
    "loss: [focal": "must be plain YAML without code",
    "- loss": "must be a mapping of names to values, got list",
    "": "must be a mapping of names to values, got NoneType",
}


@pytest.mark.parametrize("text", REFUSED)
def test_mistakes_are_refused_in_one_line(read: Read, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(text)
    message = str(caught.value)
    assert message.startswith(f"mine: {REFUSED[text]}")
    assert "\n" not in message


def test_a_space_is_found_by_name_or_file(space_file: Callable[[str], str], tmp_path: Path) -> None:
    path = space_file("extends: tiny\nloss: focal\nsummary: mine")
    assert load_space(path).summary == "mine"
    with pytest.raises(UsageError, match=r"mine\.yaml: unknown loss 'fcal'"):
        load_space(space_file("loss: fcal"))
    with pytest.raises(UsageError, match="unknown space 'tny'; did you mean 'tiny'"):
        load_space("tny")
    with pytest.raises(UsageError, match="must be a readable YAML file"):
        load_space(str(tmp_path / "none.yaml"))


def test_the_fingerprint_follows_what_is_suggested(read: Read) -> None:
    first = read("extends: tiny")
    assert first.fingerprint() == load_space("tiny").fingerprint()
    assert first.fingerprint() == read("extends: tiny\nsummary: words").fingerprint()
    assert first.fingerprint() != read("extends: tiny\nbatch_size: 64").fingerprint()


def test_weights_that_cannot_be_had_are_refused_before_anything_is_trained(read: Read, tmp_path: Path) -> None:
    load_space("tiny").require_weights()
    space = read(f"backbone: {{choices: [resnet10t], weights: {tmp_path / 'none.safetensors'}}}")
    with pytest.raises(UsageError, match=r"backbone\.weights must be a weights file.*does not exist"):
        space.require_weights()
