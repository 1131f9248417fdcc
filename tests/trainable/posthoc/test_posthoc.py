"""C10, post-hoc corrections: their formulas, the honesty of a fit, and the weights that carry them."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from safetensors.torch import load_file

from analysis.errors import UsageError
from analysis.records import RecordFolder
from tests.trainable.techniques.test_training import parsed
from tests.trainable.test_loop import small, train
from trainable.bundle import Preprocessing, load_model
from trainable.config import TrialConfig
from trainable.corrector import classifier_in
from trainable.data.dataset import ImageDataset, Split
from trainable.evaluate import predict_logits
from trainable.loop import fit
from trainable.posthoc import POSTHOC, Classifier, FittedCorrection
from trainable.precision import Precision
from trainable.state import TrialState

FITTED = [member for member in POSTHOC if issubclass(member, FittedCorrection)]
every_fitted = pytest.mark.parametrize("name", [member.model_fields["name"].default for member in FITTED])
CLASSIFIER = Classifier(np.array([4.0, 1.0, 0.25]), np.array([0.5, -1.0, 2.0]), np.array([0.9, 0.1, 0.0]), 0.05)
Z = np.array([3.0, 1.0, 2.0])


def corrected(name: str, tau: float) -> np.ndarray:
    member = POSTHOC[name]()
    assert isinstance(member, FittedCorrection)
    found = member.correction(tau, CLASSIFIER)
    return found.scale * Z + found.offset


def test_logit_adjustment_by_hand() -> None:
    """z - tau log prior, but for a number that all share; a class without images counts as half an image."""
    expected = Z - 2.0 * np.log([0.9, 0.1, 0.05])
    found = corrected("logit_adjustment", 2.0)
    np.testing.assert_allclose(found - found[0], expected - expected[0])
    assert (found - Z).mean() == pytest.approx(0.0)


def test_tau_norm_by_hand() -> None:
    """w·x = z - b over the norm to the tau; norms 4, 1, 1/4 have the geometric mean 1."""
    without_bias = np.array([2.5, 2.0, 0.0])
    np.testing.assert_allclose(corrected("tau_norm", 1.0), without_bias / [4.0, 1.0, 0.25], atol=1e-12)
    np.testing.assert_allclose(corrected("tau_norm", 0.5), without_bias / [2.0, 1.0, 0.5], atol=1e-12)


def test_tau_norm_at_one_gives_weights_of_equal_length() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    facts = classifier_in(model, np.full(3, 1 / 3), 100)
    member = POSTHOC["tau_norm"]()
    assert isinstance(member, FittedCorrection)
    scale = member.correction(1.0, facts).scale
    np.testing.assert_allclose(facts.norms * scale, np.full(3, np.exp(np.log(facts.norms).mean())))


@every_fitted
def test_strength_zero_changes_nothing_and_is_the_first_tried(name: str) -> None:
    np.testing.assert_array_equal(corrected(name, 0.0), Z)
    assert POSTHOC[name].strengths[0] == 0.0
    assert list(POSTHOC[name].strengths) == sorted(POSTHOC[name].strengths)


@pytest.mark.parametrize("name", POSTHOC.names())
def test_config_survives_suggestion_yaml_and_pickle(name: str) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = POSTHOC[name].suggest(study.ask(), f"posthoc.{name}")
    config = TrialConfig(posthoc=found)
    assert TrialConfig.from_yaml(config.to_yaml()).posthoc == found
    assert pickle.loads(pickle.dumps(found)) == found
    with pytest.raises(UsageError, match="tua"):
        POSTHOC.parse({"name": name, "tua": 1.0})


def answers(config: TrialConfig, folder: Path, digits: ImageDataset, split: Split) -> np.ndarray:
    """Return what the saved network says of the validation images, views included."""
    trial = TrialState(config, digits, split, torch.device("cpu"))
    model = load_model(config, Preprocessing.read(folder), folder / "best.safetensors")
    views = config.tta.views(config.data.flips)
    images = trial.batches.evaluate(split.val)
    return predict_logits(model, images, Precision("fp32", channels_last=False), trial.device, views)


@every_fitted
@pytest.mark.parametrize("tta", ["none", "flips_scales"])
def test_the_saved_network_predicts_what_the_record_says(
    name: str, tta: str, digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    """With a given strength every image is corrected alike, and the weights carry it."""
    config = small(
        posthoc={"name": name, "tau": 0.7},
        tta=tta,
        training={"precision": "fp32"},
        data={"flips": "h"},
    )
    reports = train(config, digits, split, tmp_path)
    record = RecordFolder(tmp_path)
    stored = record.predictions()
    assert stored is not None
    assert record.summary is not None
    assert record.summary.auto["posthoc_tau"] == 0.7
    np.testing.assert_allclose(
        answers(config, tmp_path, digits, split).astype(float), stored.logits.astype(float), atol=0.02
    )
    assert reports[-1].best_macro_f1 == record.summary.macro_f1


@every_fitted
def test_a_fit_judges_out_of_fold_and_exports_the_strength_of_all(
    name: str, digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    fixed_rest: dict[str, Any] = {"training": {"precision": "fp32"}, "epochs": 4, "select": "last"}
    config, plain = small(posthoc=name, **fixed_rest), small(**fixed_rest)
    train(config, digits, split, tmp_path / "fitted")
    train(plain, digits, split, tmp_path / "plain")
    record = RecordFolder(tmp_path / "fitted")
    stored, summary = record.predictions(), record.summary
    assert stored is not None
    assert summary is not None
    tau = summary.auto["posthoc_tau"]
    assert tau in POSTHOC[name].strengths
    said = answers(config, tmp_path / "fitted", digits, split)
    given = small(posthoc={"name": name, "tau": tau}, **fixed_rest)
    train(given, digits, split, tmp_path / "given")
    fixed = RecordFolder(tmp_path / "given").predictions()
    assert fixed is not None
    np.testing.assert_allclose(said.astype(float), fixed.logits.astype(float), atol=0.02)
    raw = RecordFolder(tmp_path / "plain").predictions()
    assert raw is not None
    assert tau == 0.0 or not np.array_equal(stored.logits, raw.logits)


def test_training_goes_on_with_uncorrected_weights(digits: ImageDataset, split: Split, tmp_path: Path) -> None:
    """The correction is carried by what is exported alone: training is the same with and without it."""
    fp32 = {"precision": "fp32"}
    train(small(training=fp32, select="last"), digits, split, tmp_path / "plain")
    adjusted = small(training=fp32, select="last", posthoc={"name": "logit_adjustment", "tau": 1.0})
    train(adjusted, digits, split, tmp_path / "adjusted")
    one, two = (load_file(tmp_path / name / "best.safetensors") for name in ("plain", "adjusted"))
    changed = {key for key in one if not torch.equal(one[key], two[key])}
    assert changed == {"classifier.bias"}
    prior = np.bincount(digits.labels[split.train], minlength=10) / len(split.train)
    difference = (two["classifier.bias"] - one["classifier.bias"]).numpy()
    np.testing.assert_allclose(difference, np.log(prior).mean() - np.log(prior), atol=1e-5)


def test_a_resumed_trial_with_a_fit_equals_an_uninterrupted_one(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    config = small(epochs=4, posthoc="logit_adjustment", averaging="ema", sampler="natural")
    whole = train(config, digits, split, tmp_path / "whole")
    broken = RecordFolder(tmp_path / "broken")
    for _ in itertools.islice(fit(config, digits, split, record=broken, checkpoint_seconds=0, device="cpu"), 2):
        pass
    resumed = list(fit(config, digits, split, record=broken, checkpoint_seconds=0, device="cpu"))
    assert resumed[-1].curve == whole[-1].curve
    one, two = (load_file(tmp_path / name / "best.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    summaries = [RecordFolder(tmp_path / name).summary for name in ("whole", "broken")]
    assert summaries[0].auto == summaries[1].auto


def test_the_prior_is_the_sampler_s(digits: ImageDataset, split: Split, tmp_path: Path) -> None:
    """Under balanced sampling there is nothing left to adjust."""
    changes: dict[str, Any] = {"sampler": "balanced", "allow": ["balanced_sampler+logit_adjustment_posthoc"]}
    train(small(**changes), digits, split, tmp_path / "plain")
    train(small(**changes, posthoc={"name": "logit_adjustment", "tau": 2.0}), digits, split, tmp_path / "both")
    plain, both = (RecordFolder(tmp_path / name).predictions() for name in ("plain", "both"))
    assert plain is not None
    assert both is not None
    np.testing.assert_array_equal(plain.classes, both.classes)


@pytest.mark.parametrize(
    ("changes", "pair"),
    [
        ({"loss": "balanced_softmax"}, "balanced_softmax+tau_norm_posthoc"),
        ({"sampler": "square_root"}, "square_root_sampler+tau_norm_posthoc"),
        ({"class_weights": "inverse_sqrt"}, "inverse_sqrt+tau_norm_posthoc"),
    ],
)
def test_a_second_correction_is_refused_unless_allowed(changes: dict[str, Any], pair: str) -> None:
    with pytest.raises(UsageError, match="corrected once") as caught:
        parsed({"posthoc": "tau_norm", **changes})
    assert pair in caught.value.remedy
    assert small(posthoc="tau_norm", allow=[pair], **changes).posthoc.name == "tau_norm"


def test_a_network_without_one_classifier_is_refused() -> None:
    with pytest.raises(UsageError, match="posthoc needs a network with one linear classifier, which levit"):
        parsed({"posthoc": "tau_norm", "backbone": "levit_128s"})
