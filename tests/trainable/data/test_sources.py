import hashlib
import os
import pickle
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torchvision import datasets

from analysis.errors import TailtuneError, UsageError
from tests.trainable.data.images import class_folders, grey, save
from trainable.data.builtin import long_tailed_rows
from trainable.data.folder import list_folder
from trainable.data.listing import check_classes
from trainable.data.load import find_listing
from trainable.data.manifest import list_manifest
from trainable.data.npz import list_npz


def folder(root):
    listing = list_folder(root, "made")
    check_classes(listing)
    return listing


def test_a_folder_per_class(tmp_path):
    listing = folder(class_folders(tmp_path, {"cat": 3, "ant": 2}))
    assert listing.class_names == ("ant", "cat")
    assert listing.names == ("ant/000.png", "ant/001.png", "cat/000.png", "cat/001.png", "cat/002.png")
    assert listing.labels.tolist() == [0, 0, 1, 1, 1]
    assert not listing.given_split.any()


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Train", "validation", "TEST"), ("training", "valid", "test")]
)
def test_parts_above_the_classes(tmp_path, names):
    for name, count in zip(names, (3, 2, 1), strict=True):
        class_folders(tmp_path / name, {"a": count, "b": count})
    listing = folder(tmp_path)
    assert np.bincount(listing.given_split).tolist() == [0, 6, 4, 2]
    assert listing.class_names == ("a", "b")


def test_train_alone_is_a_part(tmp_path):
    class_folders(tmp_path / "train", {"a": 1, "b": 1})
    class_folders(tmp_path / "unlabelled", {"x": 1})
    listing = folder(tmp_path)
    assert listing.class_names == ("a", "b")
    assert listing.notes == ("folders beside train/ are not read: unlabelled",)


def test_a_class_may_be_called_train(tmp_path):
    assert folder(class_folders(tmp_path, {"train": 2, "tram": 2})).class_names == ("train", "tram")


def test_what_lies_deeper_belongs_to_the_class(tmp_path):
    save(grey(0), tmp_path / "a" / "x" / "y" / "0.png")
    save(grey(0), tmp_path / "b" / "0.png")
    assert folder(tmp_path).names == ("a/x/y/0.png", "b/0.png")


def test_other_files_are_named_and_hidden_ones_passed_over(tmp_path):
    class_folders(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "a" / ".DS_Store").write_text("x")
    (tmp_path / ".git").mkdir()
    save(grey(0), tmp_path / ".git" / "0.png")
    listing = folder(tmp_path)
    assert listing.class_names == ("a", "b")
    assert dict(listing.skipped) == {
        "README.md": "lies outside the class folders",
        "a/notes.txt": "is not an image file",
    }


def test_links_are_followed_but_not_in_circles(tmp_path):
    class_folders(tmp_path / "data", {"a": 2, "b": 1})
    class_folders(tmp_path / "elsewhere", {"c": 1})
    (tmp_path / "data" / "a" / "loop").symlink_to(tmp_path / "data" / "a")
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "a" / "self.png").symlink_to("self.png")
    (tmp_path / "data" / "self").symlink_to("self")
    (tmp_path / "data" / "c").symlink_to(tmp_path / "elsewhere" / "c")
    (tmp_path / "data" / "b" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    listing = folder(tmp_path / "data")
    assert listing.class_counts().tolist() == [3, 2, 1]  # links to nowhere are named when they are decoded
    assert dict(listing.skipped) == {
        "a/loop": "leads back to a folder above it",
        "a/up": "leads back to a folder above it",
        "self": "lies outside the class folders",
    }


def test_links_between_folders_are_followed_once(tmp_path):
    names = [chr(ord("a") + i) for i in range(10)]
    class_folders(tmp_path, dict.fromkeys(names, 1))
    for name in names:
        for other in names:
            if other != name:
                (tmp_path / name / other).symlink_to(tmp_path / other)
    listing = folder(tmp_path)
    assert listing.class_counts().tolist() == [10] * 10
    assert {reason for _, reason in listing.skipped} == {
        "leads back to a folder above it",
        "leads to a folder that is read already",
    }


def test_pipes_are_not_waited_for(tmp_path):
    class_folders(tmp_path, {"a": 2, "b": 2})
    os.mkfifo(tmp_path / "a" / "pipe.png")
    assert folder(tmp_path).skipped == (("a/pipe.png", "is no regular file"),)
    listing = manifest(tmp_path, "path,label\na/000.png,a\nb/000.png,b\na/pipe.png,a\n")
    assert listing.skipped == (("a/pipe.png", "is no regular file"),)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf8(tmp_path):
    class_folders(tmp_path, {"a": 2, "b": 2})
    os.rename(tmp_path / "a" / "000.png", os.fsencode(tmp_path) + b"/a/V\xf6gel.png")
    assert folder(tmp_path).skipped == (("a/V\\xf6gel.png", "has a name that is not UTF-8"),)
    os.rename(tmp_path / "b", os.fsencode(tmp_path) + b"/\xff")
    with pytest.raises(TailtuneError, match=r"class names must be UTF-8, got '\\xff'; rename the folder"):
        folder(tmp_path)


def test_parts_without_training_images_are_refused(tmp_path):
    for part in ("val", "test"):
        class_folders(tmp_path / part, {"a": 2, "b": 2})
    with pytest.raises(TailtuneError, match="parts need a train/ beside them, found only test/, val/"):
        folder(tmp_path)


@pytest.mark.parametrize(
    ("counts", "law"),
    [
        ({}, "must hold images, found none"),
        ({"a": 3}, "two classes or more, found one \\('a'\\)"),
        ({"Cat": 1, "cat": 1}, "differ by more than case and spaces .*, got 'Cat' and 'cat'"),
        ({"big  cat": 1, "big cat ": 1}, "got 'big␣␣cat' and 'big␣cat␣'"),
        ({"a\nb": 1, "c": 1}, r"printable on one line, got 'a\\nb'"),
        ({"V\u00f6gel": 1, "Vo\u0308gel": 1}, "the way an accent is stored"),
    ],
)
def test_folders_that_nothing_can_be_learned_from(tmp_path, counts, law):
    with pytest.raises(TailtuneError, match=law):
        folder(class_folders(tmp_path, counts))


def test_images_without_class_folders(tmp_path):
    save(grey(0), tmp_path / "0.png")
    with pytest.raises(TailtuneError, match="must lie in class folders"):
        folder(tmp_path)


def test_a_class_that_only_test_has(tmp_path):
    class_folders(tmp_path / "train", {"a": 1, "b": 1})
    class_folders(tmp_path / "test", {"a": 1, "z": 1})
    with pytest.raises(
        TailtuneError, match="needs an image to train on, but 1 stand only in validation or test: 'z'"
    ):
        folder(tmp_path)


def manifest(root, text, encoding="utf-8", **options):
    for name in ("0.png", "1.png", "2.png"):
        save(grey(0), root / name)
    path = root / "data.csv"
    path.write_bytes(text.encode(encoding))
    return list_manifest(path, "data.csv", **options)


def test_a_manifest(tmp_path):
    listing = manifest(tmp_path, "path,label,split,group\n1.png,b,val,g\n0.png,a,train,\n2.png,a,,g\n")
    assert listing.names == ("0.png", "1.png", "2.png")
    assert listing.class_names == ("a", "b")
    assert listing.labels.tolist() == [0, 1, 0]
    assert listing.given_split.tolist() == [1, 2, 0]
    assert listing.groups().tolist() == [0, 2, 1]
    assert listing.notes == ("1 groups span several classes and are kept whole within each class only: g",)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_separators_and_encodings(tmp_path, separator, encoding):
    listing = manifest(
        tmp_path, f"Path{separator}Label\r\n0.png{separator}Vögel\r\n1.png{separator}b\r\n", encoding
    )
    assert listing.class_names == ("Vögel", "b")


def test_a_table_from_a_spreadsheet_in_utf_16(tmp_path):
    assert manifest(tmp_path, "path\tlabel\n0.png\tVögel\n1.png\tb\n", "utf-16").class_names == ("Vögel", "b")


def test_a_line_in_another_encoding_makes_no_class_of_its_own(tmp_path):
    manifest(tmp_path, "path,label\n0.png,Vögel\n1.png,b\n")
    with open(tmp_path / "data.csv", "ab") as file:
        file.write("2.png,Vögel\n".encode("latin-1"))
    listing = list_manifest(tmp_path / "data.csv", "data.csv")
    assert listing.class_names == ("Vögel", "b")
    assert listing.notes == ("1 lines are not UTF-8 and were read as Latin-1, the first of them line 4",)


def test_absent_files_are_named(tmp_path):
    listing = manifest(tmp_path, "path,label\n0.png,a\n1.png,b\ngone.png,b\n")
    assert listing.skipped == (("gone.png", "no such file or directory"),)
    assert len(listing) == 2


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("", "got an empty file"),
        ("file,label\n0.png,a\n", "path is missing \\(found: file, label\\)"),
        ("path,label,split\n0.png,a,tran\n", "row 2: unknown split 'tran'; did you mean 'train'"),
        ("path,label\n0.png,\n", "row 2 has '0.png' and ''"),
        ("path,label\n0.png,a,b\n", "row 2 has 3"),
        ("path,label\n0.png,a\n1.png;b\n", "row 3 has 1"),
        ("path;label\n0.png,a\n", "row 2 has 1"),
        ("path,label,label\n0.png,a,b\n", "each column must stand once"),
        ("path,label\n0\0.png,a\n", "must hold no NUL character, row 2 has one"),
        ('path,label\n"0.png,a\n', "must be a CSV table"),
        ("path,label\n0.png,a\n0.png,b\n", "a path must stand once, got '0.png' twice"),
        ("path,label\n../0.png,a\n", "must stay in the manifest's folder, got '../0.png'"),
        ("path,label\n/etc/0.png,a\n", "must stay in the manifest's folder"),
        ("path,label\ngone.png,a\n", "none of 1 does"),
    ],
)
def test_manifests_that_break_a_law(tmp_path, text, law):
    with pytest.raises(TailtuneError, match=law):
        manifest(tmp_path, text)


def test_a_manifest_may_be_allowed_to_leave_its_folder(tmp_path):
    outside = save(grey(0), tmp_path / "outside.png")
    listing = manifest(tmp_path / "in", f"path,label\n../outside.png,a\n{outside},b\n", allow_outside=True)
    assert len(listing) == 2


def test_a_parquet_manifest_says_what_the_csv_says(tmp_path):
    csv = manifest(tmp_path, "path,label,split\n0.png,a,train\n1.png,b,\n2.png,b,test\n")
    pd.DataFrame(
        {"path": ["0.png", "1.png", "2.png"], "label": list("abb"), "split": ["train", None, "test"]}
    ).to_parquet(tmp_path / "data.parquet")
    parquet = list_manifest(tmp_path / "data.parquet", "data.parquet")
    assert parquet.names == csv.names
    assert parquet.class_names == csv.class_names
    np.testing.assert_array_equal(parquet.labels, csv.labels)
    np.testing.assert_array_equal(parquet.given_split, csv.given_split)


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "data.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(TailtuneError, match="must be a Parquet table"):
        list_manifest(tmp_path / "data.parquet", "data.parquet")


def medmnist(path, **arrays):
    images = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)
    labels = np.array([[0], [2], [2]])
    parts = {
        f"{part}_{what}": of
        for part in ("train", "val", "test")
        for what, of in (("images", images), ("labels", labels))
    }
    np.savez(path, **{**parts, **arrays})
    return path


def test_an_npz_in_the_layout_of_medmnist(tmp_path):
    listing = list_npz(medmnist(tmp_path / "a.npz"), "a.npz")
    assert listing.class_names == ("0", "2")
    assert listing.labels.tolist() == [0, 1, 1] * 3
    assert listing.given_split.tolist() == [1] * 3 + [2] * 3 + [3] * 3
    assert listing.read(tmp_path / "pixels.npy").shape == (9, 4, 4)


def test_labels_of_several_columns_are_out_of_scope(tmp_path):
    path = medmnist(tmp_path / "a.npz", train_labels=np.zeros((3, 14), dtype=int))
    with pytest.raises(TailtuneError, match="multi-label targets are out of scope"):
        list_npz(path, "a.npz")


@pytest.mark.parametrize(
    ("images", "law"),
    [
        (np.zeros((3, 4, 4, 4), np.uint8), r"images must be .*, got shape \(3, 4, 4, 4\) of uint8"),
        (np.zeros((3, 4, 4), np.float32), r"images must be .*, got shape \(3, 4, 4\) of float32"),
        (np.zeros((3, 0, 4), np.uint8), r"images must be .*, got shape \(3, 0, 4\)"),
        (np.zeros((3, 5, 5), np.uint8), r"of all parts must have one shape, got \(4, 4\), \(5, 5\), \(4, 4\)"),
        (np.zeros((2, 4, 4), np.uint8), r"each image needs a label, got 2 val_images and 3 val_labels"),
        (np.zeros((3, 4, 4), np.uint8, order="F"), r"row by row, got Fortran order; np.ascontiguousarray"),
    ],
)
def test_images_that_cannot_be_meant_are_refused_unread(tmp_path, images, law):
    with pytest.raises(TailtuneError, match=law):
        list_npz(medmnist(tmp_path / "a.npz", val_images=images), "a.npz")


def test_labels_that_no_int64_holds_are_refused(tmp_path):
    path = medmnist(tmp_path / "a.npz", val_labels=np.full(3, 2**63, dtype=np.uint64))
    with pytest.raises(TailtuneError, match=r"val_labels must be below 2\*\*63"):
        list_npz(path, "a.npz")


def test_damaged_labels_are_named(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", **np.load(medmnist(tmp_path / "plain.npz")))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    at = content.index(b"train_labels.npy") + 60
    content[at : at + 8] = b"????????"
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(TailtuneError, match=r"must be an .npz file of plain arrays"):
        list_npz(tmp_path / "a.npz", "a.npz")


def test_a_damaged_archive_is_named(tmp_path):
    path = medmnist(tmp_path / "a.npz")
    listing, content = list_npz(path, "a.npz"), bytearray(path.read_bytes())
    at = content.index(b"val_images.npy") + 200
    content[at : at + 4] = b"????"
    path.write_bytes(content)
    with pytest.raises(TailtuneError, match=r"a.npz: images must be readable, but Bad CRC-32"):
        listing.read(tmp_path / "pixels.npy")


def test_other_archives_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(TailtuneError, match="got: x"):
        list_npz(tmp_path / "a.npz", "a.npz")
    (tmp_path / "b.npz").write_bytes(b"no archive")
    with pytest.raises(TailtuneError, match=r"must be an .npz file"):
        list_npz(tmp_path / "b.npz", "b.npz")


def test_an_array_of_objects_is_never_unpickled(tmp_path):
    path = medmnist(tmp_path / "a.npz", train_labels=np.array([print, print, print], dtype=object))
    with pytest.raises(TailtuneError, match=r"must be an .npz file of plain arrays"):
        list_npz(path, "a.npz")


def test_digits_lt_has_a_fixed_long_tail(tmp_path):
    listing = find_listing("digits-lt", cache_dir=tmp_path)
    train, val, test = (np.bincount(listing.labels[listing.given_split == code]) for code in (1, 2, 3))
    assert train[0] == 178 - 60
    assert train[9] == 6
    assert np.all(np.diff(train) < 0)
    assert val.tolist() == test.tolist() == [30] * 10
    assert len(set(listing.names)) == len(listing)
    assert listing.read(tmp_path / "unused").max() == 255


@pytest.mark.parametrize(
    ("imbalance_ratio", "images"), [(1, 50_000), (10, 19_573), (50, 12_608), (100, 10_847)]
)
def test_cifar100_lt_has_the_published_number_of_images(imbalance_ratio, images):
    labels = np.tile(np.arange(100), 600)
    split = np.repeat(np.array([1, 3], dtype=np.int8), [50_000, 10_000])
    rows = long_tailed_rows(labels, split, imbalance_ratio)
    train = np.bincount(labels[rows][split[rows] == 1])
    assert train.sum() == images
    assert train[0] == 500
    assert train[99] == 500 // imbalance_ratio
    assert np.sum(split[rows] == 3) == 10_000


def test_a_damaged_cifar_folder_says_where_to_put_it(tmp_path):
    (tmp_path / "downloads" / "cifar-100-python").mkdir(parents=True)
    with pytest.raises(TailtuneError, match=r"cifar100 is neither in .* nor to be downloaded.*put it into"):
        find_listing("cifar100", cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("source", "law"),
    [
        ("cifar100-lt", "needs an imbalance ratio from 1 to 500"),
        ("cifar100-lt:0", "needs an imbalance ratio from 1 to 500"),
        ("cifar100-lt:nan", "needs an imbalance ratio from 1 to 500"),
        ("digits", "unknown folder, file or built-in data set 'digits'; did you mean 'digits-lt'"),
    ],
)
def test_unknown_names(tmp_path, source, law):
    with pytest.raises(UsageError, match=law):
        find_listing(source, cache_dir=tmp_path)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(TailtuneError, match="no folder or file"):
        find_listing(str(tmp_path / "nowhere"), cache_dir=tmp_path)
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(UsageError, match="data must be a folder"):
        find_listing(str(tmp_path / "a.pdf"), cache_dir=tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read(tmp_path):
    class_folders(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a").chmod(0)
    with pytest.raises(TailtuneError, match="must be readable"):
        folder(tmp_path)
    (tmp_path / "a").chmod(0o700)


def test_ten_thousand_classes(tmp_path):
    image = tmp_path / "0.png"
    Image.new("L", (1, 1)).save(image)
    rows = "".join(f"{i}.png,class {i}\n" for i in range(10_000))
    for i in range(10_000):
        os.link(image, tmp_path / f"{i}.png") if i else None
    (tmp_path / "data.csv").write_text("path,label\n" + rows)
    listing = list_manifest(tmp_path / "data.csv", "data.csv")
    check_classes(listing)
    assert len(listing.class_names) == 10_000


def test_utf16_without_its_mark_is_named(tmp_path):
    (tmp_path / "data.csv").write_bytes("path,label\n0.png,a\n".encode("utf-16-le"))
    with pytest.raises(TailtuneError, match="must be UTF-8, or UTF-16 with its mark"):
        list_manifest(tmp_path / "data.csv", "data.csv")


def test_paths_that_stay_inside_after_all_are_taken(tmp_path):
    listing = manifest(tmp_path, "path,label\n\nsub/../0.png,a\n./1.png,b\n")
    assert listing.names == ("0.png", "1.png")
    with pytest.raises(TailtuneError, match=r"row 4 has '' and 'b'"):
        manifest(tmp_path, "path,label\n\n0.png,a\n,b\n")


def cifar_files(downloads, monkeypatch):
    """Write CIFAR-10 as its authors pack it, 20 images a batch; torchvision is told their checksums."""
    root = downloads / datasets.CIFAR10.base_folder
    root.mkdir(parents=True)
    rng, images = np.random.default_rng(0), []

    def packed(name, content):
        (root / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((root / name).read_bytes()).hexdigest()

    def batch(name):
        images.append(rng.integers(0, 256, (20, 3 * 32 * 32), dtype=np.uint8))
        return [name, packed(name, {"data": images[-1], "labels": [i % 10 for i in range(20)]})]

    monkeypatch.setattr(datasets.CIFAR10, "train_list", [batch(f"data_batch_{i}") for i in range(1, 6)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [batch("test_batch")])
    names = {"label_names": [f"class {i}" for i in range(10)]}
    meta = {"filename": "batches.meta", "key": "label_names", "md5": packed("batches.meta", names)}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return np.concatenate(images).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def test_cifar10_is_read_from_its_authors_files(tmp_path, monkeypatch):
    images = cifar_files(tmp_path / "downloads", monkeypatch)
    listing = find_listing("cifar10", cache_dir=tmp_path)
    assert (listing.class_names[3], listing.labels[3]) == ("class 3", 3)
    assert listing.given_split.tolist() == [1] * 100 + [3] * 20
    np.testing.assert_array_equal(listing.read(tmp_path / "unused"), images)
