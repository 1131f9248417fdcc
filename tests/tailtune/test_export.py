"""A bundle predicts what the trial predicted, and says so elsewhere too."""

from __future__ import annotations

import dataclasses
import json
import shutil
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.metrics import f1_score

from analysis.errors import TailtuneError, UsageError
from analysis.records import RecordFolder
from tailtune.export import train_config, write_bundle
from tests.trainable.test_loop import small
from trainable.bundle import Preprocessing
from trainable.checkpoint import epoch_of_weights
from trainable.config import TrialConfig
from trainable.data.load import load_dataset
from trainable.loop import fit
from trainable.predictor import Predictor


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "out"
    config = small(batch_size=64, epochs=2, training={"precision": "fp32"})
    train_config(config, "digits-lt", out, cache_dir=cache)
    return out


def stored(bundle: Path) -> Any:
    return RecordFolder(bundle / "record").predictions()


def test_a_bundle_predicts_what_the_trial_predicted(bundle: Path, cache: Path) -> None:
    predictions = stored(bundle)
    dataset = load_dataset("digits-lt", data=small().data, cache_dir=cache)
    logits = Predictor.load(bundle, "cpu").logits(dataset.images[predictions.indices])
    np.testing.assert_allclose(logits, predictions.logits, atol=2e-3)
    assert (logits.argmax(1) == predictions.logits.argmax(1)).mean() > 0.99


@pytest.mark.usefixtures("products_everywhere")
@pytest.mark.parametrize("backbone", ["resnet10t", "mobilenetv3_small_050"])
def test_in_bf16_a_bundle_computes_with_what_its_trial_computed_with(
    tmp_path: Path, cache: Path, backbone: str
) -> None:
    config = small(batch_size=64, epochs=1, backbone=backbone, training={"precision": "bf16"})
    train_config(config, "digits-lt", tmp_path / "out", cache_dir=cache)
    predictions = stored(tmp_path / "out")
    images = load_dataset("digits-lt", data=small().data, cache_dir=cache).images[predictions.indices]
    # In the trial's own batches: another number of images rounds differently.
    logits = Predictor.load(tmp_path / "out", "cpu").logits(images, batch_size=128)
    np.testing.assert_array_equal(logits, predictions.logits)


def test_files_and_their_checksums(bundle: Path) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    files = {path.name for path in bundle.iterdir() if path.is_file()}
    assert files == {*manifest["sha256"], "bundle.json"}
    for name, digest in manifest["sha256"].items():
        assert sha256((bundle / name).read_bytes()).hexdigest() == digest
    assert json.loads((bundle / "class_names.json").read_text()) == [str(label) for label in range(10)]


def test_metrics_are_those_of_the_stored_predictions_with_intervals(bundle: Path) -> None:
    predictions = stored(bundle)
    metrics = json.loads((bundle / "metrics.json").read_text())
    expected = f1_score(predictions.targets, predictions.classes, average="macro")
    assert metrics["macro_f1"]["value"] == pytest.approx(expected)
    low, high = metrics["macro_f1"]["interval"]
    assert low < expected < high


def test_an_image_file_gets_the_probabilities_of_its_pixels(bundle: Path, cache: Path, tmp_path: Path) -> None:
    dataset = load_dataset("digits-lt", data=small().data, cache_dir=cache)
    Image.fromarray(dataset.images[0, ..., 0]).save(tmp_path / "digit.png")
    predictor = Predictor.load(bundle, "cpu")
    probabilities = predictor.predict([tmp_path / "digit.png"])
    logits = predictor.logits(dataset.images[:1]).astype(np.float64)
    np.testing.assert_allclose(probabilities, np.exp(logits) / np.exp(logits).sum(), rtol=1e-6)
    (tmp_path / "not.png").write_text("no image")
    with pytest.raises(TailtuneError, match=r"not\.png is no image"):
        predictor.predict([tmp_path / "not.png"])


def test_a_bundle_carries_its_post_hoc_correction(tmp_path: Path, cache: Path) -> None:
    config = small(batch_size=64, epochs=2, posthoc={"name": "logit_adjustment", "tau": 1.5})
    train_config(config, "digits-lt", tmp_path / "out", cache_dir=cache)
    assert json.loads((tmp_path / "out" / "bundle.json").read_text())["posthoc_tau"] == 1.5
    predictions = stored(tmp_path / "out")
    dataset = load_dataset("digits-lt", data=config.data, cache_dir=cache)
    logits = Predictor.load(tmp_path / "out", "cpu").logits(dataset.images[predictions.indices])
    assert (logits.argmax(1) == predictions.classes).mean() > 0.98
    np.testing.assert_allclose(logits.astype(float), predictions.logits.astype(float), atol=0.1)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_timm_loads_an_unmodified_network_from_the_folder(backbone: str, tmp_path: Path, cache: Path) -> None:
    network = {"name": backbone, "stem": "original"}
    config = small(batch_size=64, epochs=1, backbone=network, data={"image_size": (32, 32), "flips": "none"})
    train_config(config, "digits-lt", tmp_path / "out", cache_dir=cache)
    assert json.loads((tmp_path / "out" / "bundle.json").read_text())["timm_local_dir"]
    theirs = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    ours = Predictor.load(tmp_path / "out", "cpu").model
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(theirs(images), ours(images))


def test_a_changed_stem_is_not_offered_to_timm(bundle: Path) -> None:
    assert not json.loads((bundle / "bundle.json").read_text())["timm_local_dir"]
    assert not (bundle / "config.json").exists()


def test_the_exported_configuration_trains_the_same_trial_again(
    bundle: Path, cache: Path, tmp_path: Path
) -> None:
    config = TrialConfig.from_file(bundle / "config.yaml")
    assert config.training.precision != "auto"
    train_config(config, "digits-lt", tmp_path / "again", cache_dir=cache)
    np.testing.assert_array_equal(stored(bundle).logits, stored(tmp_path / "again").logits)


def test_train_goes_on_where_it_was_and_refuses_other_folders(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(train_config.__globals__, "fit", partial(fit, checkpoint_seconds=0))
    config, out = small(batch_size=64, epochs=3), tmp_path / "out"
    seen: list[int] = []

    class Interrupted(Exception):
        pass

    def interrupt(report: Any) -> None:
        seen.append(report.epoch)
        if report.epoch == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_config(config, "digits-lt", out, cache_dir=cache, on_epoch=interrupt)
    train_config(config, "digits-lt", out, cache_dir=cache, on_epoch=lambda report: seen.append(report.epoch))
    assert seen == [1, 2, 2, 3]
    with pytest.raises(UsageError, match="new or empty folder"):
        train_config(small(batch_size=32), "digits-lt", out, cache_dir=cache)


def test_gone_weights_are_said_to_be_gone(bundle: Path, tmp_path: Path) -> None:
    record = RecordFolder(bundle / "record")
    config = TrialConfig.from_file(bundle / "config.yaml")
    copy = RecordFolder(tmp_path / "record")
    for name in ("predictions.npz", "preprocessing.json"):
        copy.write_bytes(name, (record.path / name).read_bytes())
    with pytest.raises(TailtuneError, match="keeps no weights"):
        write_bundle(copy, config, tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


def test_weights_and_predictions_of_two_epochs_are_no_bundle(bundle: Path, tmp_path: Path) -> None:
    """A running trial's record: predictions after each epoch, weights now and then."""
    config = TrialConfig.from_file(bundle / "config.yaml")
    copy = RecordFolder(shutil.copytree(bundle / "record", tmp_path / "record"))
    predictions = stored(bundle)
    assert epoch_of_weights(copy.path / "best.safetensors") == predictions.epoch
    copy.write_predictions(dataclasses.replace(predictions, epoch=predictions.epoch + 1))
    with pytest.raises(TailtuneError, match=r"are of epoch ., its predictions of epoch") as caught:
        write_bundle(copy, config, tmp_path / "out", {})
    assert caught.value.remedy == "let the trial end: wait, or resume its study"
    assert not (tmp_path / "out").exists()


def test_preprocessing_survives_its_file(bundle: Path) -> None:
    read = Preprocessing.read(bundle)
    assert read == Preprocessing(**{f: getattr(read, f) for f in read.__dataclass_fields__})
    assert read.image_size == (8, 8)


def test_train_does_not_take_one_run_for_another_on_other_images(tmp_path: Path, cache: Path) -> None:
    """The same configuration and folder, other images: not resumed, and nobody's model is passed off."""
    rng = np.random.default_rng(0)
    for source in "ab":
        arrays = {
            f"{part}_{what}": value
            for part, count in (("train", 24), ("val", 12))
            for what, value in (
                ("images", rng.integers(0, 256, (count, 8, 8), dtype=np.uint8)),
                ("labels", np.arange(count)[:, None] % 3),
            )
        }
        np.savez(
            tmp_path / f"{source}.npz",
            **arrays,
            test_images=arrays["val_images"],
            test_labels=arrays["val_labels"],
        )
    config, out = small(epochs=1), tmp_path / "out"
    train_config(config, str(tmp_path / "a.npz"), out, cache_dir=cache)
    before = (out / "bundle.json").read_bytes()
    with pytest.raises(UsageError, match="new or empty folder"):
        train_config(config, str(tmp_path / "b.npz"), out, cache_dir=cache)
    assert (out / "bundle.json").read_bytes() == before
    train_config(config, str(tmp_path / "a.npz"), out, cache_dir=cache)
