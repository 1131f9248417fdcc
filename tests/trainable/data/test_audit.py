import io
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.trainable.data.images import class_folders, save
from trainable.config import DataConfig
from trainable.data.audit import MAX_BITS, audit
from trainable.data.likeness import alike, digests, perceptual_hashes, thumbnails
from trainable.data.load import load_dataset
from trainable.data.split import make_split
from trainable.data.suggestions import suggest_flips, suggest_geometry


def smooth(seed, height=48, width=48):
    """A picture of soft blobs, as photographs are to a hash."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)


def compressed(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return Image.open(buffer).convert("RGB")


def audited(root, tmp_path, **options):
    dataset = load_dataset(str(root), data=DataConfig(**options), cache_dir=tmp_path / "cache")
    return audit(dataset, make_split(dataset, seed=0))


def test_thumbnails_are_means_over_areas():
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 1), dtype=np.uint8)
    wanted = image[0, :, :, 0].reshape(32, 2, 32, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(thumbnails(image)[0], wanted, atol=0.51)


def test_a_copy_keeps_its_hash_and_another_picture_has_another():
    pictures = [smooth(seed) for seed in range(20)]
    changed = [compressed(picture.point(lambda value: value * 0.8 + 20)) for picture in pictures]
    both = thumbnails(np.stack([np.asarray(image) for image in pictures + changed]))
    hashes = perceptual_hashes(both)
    distance = np.bitwise_count(hashes[:20, None] ^ hashes[None, 20:])
    assert np.diag(distance).max() <= MAX_BITS
    assert distance[~np.eye(20, dtype=bool)].min() > 8
    pairs = np.array([[i, j] for i in range(20) for j in range(20, 40)])
    np.testing.assert_array_equal(alike(both, pairs, 0.98), pairs[:, 1] - pairs[:, 0] == 20)


def test_blank_pictures_are_alike_and_like_nothing_else():
    pictures = np.zeros((3, 32, 32), dtype=np.uint8)
    pictures[1] += 255
    pictures[2, :16] = 200
    assert perceptual_hashes(pictures)[:2].tolist() == [0, 0]
    assert alike(pictures, np.array([[0, 1], [0, 2]]), 0.98).tolist() == [True, False]


def test_digests_tell_single_pixels_apart():
    images = np.zeros((3, 4, 4, 1), dtype=np.uint8)
    images[2, 3, 3, 0] = 1
    one, two, three = digests(images)
    assert one == two != three


def test_an_audit_finds_what_was_planted(tmp_path):
    root = class_folders(tmp_path / "data", {"cat": 30, "dog": 12, "eel": 3, "fox": 1}, of=smooth)
    save(Image.open(root / "cat" / "003.png"), root / "dog" / "same.png")
    save(compressed(Image.open(root / "cat" / "004.png")), root / "cat" / "near.png")
    (root / "dog" / "001.png").write_bytes(b"")
    found = audited(root, tmp_path)
    by_kind = {kind: [c for c in found.copies if c.kind == kind] for kind in ("exact", "near")}
    assert [c.paths for c in by_kind["exact"]] == [("cat/003.png", "dog/same.png")]
    assert by_kind["exact"][0].across_labels
    assert [c.paths for c in by_kind["near"]] == [("cat/004.png", "cat/near.png")]
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["num_images"] == 47
    assert document["num_classes"] == 4
    assert document["class_counts"] == {"cat": 31, "dog": 12, "eel": 3, "fox": 1}
    assert document["imbalance_ratio"] == 25.0
    assert document["skipped"] == [{"path": "dog/001.png", "reason": "is empty"}]
    assert {row["class"] for row in document["untrusted_classes"]} == {"dog", "eel", "fox"}
    assert document["groups"] == {"head": 0, "medium": 1, "tail": 3}
    assert any("fox" in note for note in document["notes"])
    assert 0 < document["resolvable_macro_f1"] < 1


def test_arrays_are_audited_too(tmp_path):
    found = audited("digits-lt", tmp_path).to_json()
    assert found["sizes"]["height"] == [8.0, 8.0, 8.0]
    assert found["parts"] == {"train": 406, "val": 300, "test": 300}
    assert {s["option"]: s["value"] for s in found["suggestions"]} == {
        "--image-size": "8x8",
        "--resize": "stretch",
        "--flips": "none",
    }


def test_flips_are_judged_by_what_mirrors_do():
    digits = load_digits()
    pictures = thumbnails((digits.images * 15).astype(np.uint8)[..., None])
    assert suggest_flips(pictures, digits.target, 10).value == "none"
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600)
    stripes = np.where(np.arange(32) // 4 % 2, 200, 40)[None, :, None] + rng.integers(0, 40, (600, 32, 32))
    middle = np.arange(32)[None, None] // 8 % 3 == 0
    sided = np.where(labels[:, None, None] == 0, stripes, stripes * ~middle).astype(np.uint8)
    assert suggest_flips(sided, labels, 2).value in {"h", "hv"}


@pytest.mark.parametrize(
    ("height", "width", "aspect", "explained", "size", "policy"),
    [
        ([32, 32, 32], [32, 32, 32], [1, 1, 1], 0.0, "32x32", "stretch"),
        ([30, 53, 150], [30, 55, 180], [0.6, 1.0, 2.6], 0.6, "56x56", "keep-scale"),
        ([30, 53, 150], [30, 55, 180], [0.6, 1.0, 2.6], 0.1, "56x56", "pad"),
        ([400, 600, 900], [600, 900, 1200], [1.4, 1.5, 1.55], 0.0, "152x224", "stretch"),
    ],
)
def test_geometry(height, width, aspect, explained, size, policy):
    spread = {"height": height, "width": width, "aspect": aspect, "size_explained_by_class": explained}
    assert [s.value for s in suggest_geometry(spread)] == [size, policy]
