import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.errors import TailtuneError, UsageError
from tests.trainable.data.images import class_folders, colour, grey, save
from trainable.config import DataConfig
from trainable.data import cache, load, reader
from trainable.data.decode import open_image
from trainable.data.load import load_dataset
from trainable.data.split import make_split


def loaded(source, tmp_path, size=(12, 10), **options):
    run = {key: options.pop(key) for key in ("workers", "progress") if key in options}
    data = DataConfig(image_size=size, **options)
    return load_dataset(str(source), data=data, cache_dir=tmp_path / "cache", **run)


@pytest.fixture
def data(tmp_path):
    return class_folders(tmp_path / "data", {"a": 3, "b": 2})


def test_a_folder_becomes_arrays(data, tmp_path):
    dataset = loaded(data, tmp_path)
    assert dataset.images.shape == (5, 12, 10, 1)
    assert dataset.images.dtype == np.uint8
    assert not dataset.images.flags.writeable
    assert dataset.class_names == ("a", "b")
    for image, path in zip(dataset.images, dataset.paths, strict=True):
        np.testing.assert_array_equal(image[..., 0], np.asarray(Image.open(data / path)))


def test_one_coloured_image_makes_all_of_them_colour(data, tmp_path):
    save(colour(7), data / "b" / "zz.png")
    dataset = loaded(data, tmp_path)
    assert dataset.channels == 3
    np.testing.assert_array_equal(dataset.images[5], np.asarray(colour(7)))
    assert np.ptp(dataset.images[0].astype(int), axis=-1).max() == 0


def test_colour_that_the_sample_missed_is_found(tmp_path, monkeypatch):
    root = class_folders(tmp_path / "data", {"a": 6, "b": 2})
    save(colour(7), root / "a" / "0035.png")  # second of nine: a sample of every second passes it over
    real = reader.survey
    monkeypatch.setattr(load, "survey", lambda *arguments: real(*arguments, sample=1))
    assert loaded(root, tmp_path).channels == 3


def test_grey_images_saved_in_colour_stay_grey(tmp_path):
    root = class_folders(tmp_path / "data", {"a": 3, "b": 2}, of=lambda seed: grey(seed).convert("RGB"))
    assert loaded(root, tmp_path).channels == 1


def test_without_a_size_the_median_is_taken(tmp_path):
    for i, (height, width) in enumerate([(10, 30), (12, 31), (50, 90)]):
        save(grey(i, height, width), tmp_path / "data" / "ab"[i % 2] / f"{i}.png")
    assert loaded(tmp_path / "data", tmp_path, size=None).image_size == (12, 31)


def test_the_second_start_decodes_nothing(data, tmp_path):
    first = loaded(data, tmp_path)
    seen = []
    second = loaded(data, tmp_path, progress=lambda done, total: seen.append(done))
    assert not seen
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.images, first.images)


def test_progress_ends_at_all(data, tmp_path):
    seen = []
    loaded(data, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)


def changed(data):
    save(grey(99), data / "a" / "000.png")


def touched(data):
    os.utime(data / "a" / "000.png", (1, 1))


def added(data):
    save(grey(99), data / "a" / "003.png")


def renamed(data):
    (data / "a" / "000.png").rename(data / "a" / "0.png")


def moved(data):
    (data / "a" / "000.png").rename(data / "b" / "000x.png")


@pytest.mark.parametrize("change", [changed, touched, added, renamed, moved])
def test_other_data_have_another_fingerprint(data, tmp_path, change):
    before = loaded(data, tmp_path).fingerprint
    change(data)
    assert loaded(data, tmp_path).fingerprint != before


def test_options_that_change_pixels_or_groups_change_the_fingerprint(data, tmp_path):
    options = [
        {"size": (12, 10)},
        {"size": (8, 8)},
        {"size": (12, 10), "group_by": "00"},
        {"size": (12, 10), "verify_content": True},
    ]
    assert len({loaded(data, tmp_path, **of).fingerprint for of in options}) == 4


def test_the_place_of_the_data_is_no_part_of_the_fingerprint(data, tmp_path):
    before = loaded(data, tmp_path).fingerprint
    assert loaded(data.rename(tmp_path / "elsewhere"), tmp_path).fingerprint == before


def test_with_verified_content_the_time_does_not_count(data, tmp_path):
    before = loaded(data, tmp_path, verify_content=True).fingerprint
    touched(data)
    assert loaded(data, tmp_path, verify_content=True).fingerprint == before
    changed(data)
    assert loaded(data, tmp_path, verify_content=True).fingerprint != before


def cache_folder(tmp_path) -> Path:
    (folder,) = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    return folder


def torn(folder):
    images = (folder / "images.npy").read_bytes()
    (folder / "images.npy").write_bytes(images[:-7])


def without_meta(folder):
    (folder / "meta.json").unlink()


def of_another_version(folder):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "format": cache.FORMAT - 1}))


def garbled(folder):
    (folder / "meta.json").write_text("[1")


@pytest.mark.parametrize("damage", [torn, without_meta, of_another_version, garbled])
def test_a_damaged_cache_is_made_anew(data, tmp_path, damage):
    expected = np.array(loaded(data, tmp_path).images)
    damage(cache_folder(tmp_path))
    np.testing.assert_array_equal(loaded(data, tmp_path).images, expected)
    assert sorted(file.name for file in cache_folder(tmp_path).iterdir()) == ["images.npy", "meta.json"]


def test_an_interrupted_decoding_goes_on_where_it_stopped(data, tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "CHUNK", 2)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loaded(data, tmp_path, progress=stop)
    seen = []
    dataset = loaded(data, tmp_path, progress=lambda done, total: seen.append(done))
    assert seen == [4, 5]
    for image, path in zip(dataset.images, dataset.paths, strict=True):
        np.testing.assert_array_equal(image[..., 0], np.asarray(Image.open(data / path)))


KILLED = """
import os, signal, sys
from pathlib import Path
from trainable.config import DataConfig
from trainable.data import load, reader
reader.CHUNK, reader.FEW = 2, int(sys.argv[3])

def kill(done, total):
    if done >= 6:
        os.kill(os.getpid(), signal.SIGKILL)

load.load_dataset(
    sys.argv[1], data=DataConfig(image_size=(12, 10)), cache_dir=Path(sys.argv[2]), workers=2, progress=kill
)
"""


@pytest.mark.parametrize("few", [100, 0], ids=["alone", "with processes"])
def test_after_a_kill_nothing_is_decoded_twice(tmp_path, monkeypatch, few):
    root = class_folders(tmp_path / "data", {"a": 9, "b": 8})
    words = [sys.executable, "-c", KILLED, str(root), str(tmp_path / "cache"), str(few)]
    with open(tmp_path / "said", "w+b") as said:  # a pipe would be held open by the decoding processes
        assert subprocess.run(words, stderr=said).returncode == -signal.SIGKILL, said.read()
    monkeypatch.setattr(reader, "CHUNK", 2)
    decoded = []
    real = reader.decode_chunk

    def counted(array, start, *rest):
        decoded.append(start)
        return real(array, start, *rest)

    monkeypatch.setattr(reader, "decode_chunk", counted)
    dataset = loaded(root, tmp_path)
    assert len(decoded) == 9 - 3
    for image, path in zip(dataset.images, dataset.paths, strict=True):
        np.testing.assert_array_equal(image[..., 0], np.asarray(Image.open(root / path)))


def test_processes_decode_what_one_alone_would(tmp_path, monkeypatch):
    root = class_folders(tmp_path / "data", {"a": 20, "b": 9})
    (root / "a" / "013.png").write_bytes(b"broken")
    alone = loaded(root, tmp_path)
    monkeypatch.setattr(reader, "FEW", 0)
    monkeypatch.setattr(reader, "CHUNK", 4)
    shutil.rmtree(tmp_path / "cache")
    together = loaded(root, tmp_path, workers=2)
    assert together.skipped == alone.skipped == (("a/013.png", "is not an image that can be read"),)
    np.testing.assert_array_equal(together.images, alone.images)


def test_broken_files_are_named_and_left_out(tmp_path):
    root = class_folders(tmp_path / "data", {"a": 8, "b": 8})
    (root / "a" / "001.png").write_bytes(b"")
    whole = (root / "b" / "002.png").read_bytes()
    (root / "b" / "002.png").write_bytes(whole[: len(whole) // 2])
    dataset = loaded(root, tmp_path)
    assert [path for path, _ in dataset.skipped] == ["a/001.png", "b/002.png"]
    assert all(reason for _, reason in dataset.skipped)
    assert len(dataset.images) == len(dataset.labels) == len(dataset.paths) == 14
    for image, path in zip(dataset.images, dataset.paths, strict=True):
        np.testing.assert_array_equal(image[..., 0], np.asarray(Image.open(root / path)))
    assert loaded(root, tmp_path).skipped == dataset.skipped


def test_a_class_of_broken_files_is_left_out_and_named(tmp_path):
    root = class_folders(tmp_path / "data", {"a": 8, "b": 8, "c": 1})
    (root / "c" / "000.png").write_bytes(b"")
    dataset = loaded(root, tmp_path)
    assert dataset.class_names == ("a", "b")
    assert dataset.notes == ("1 classes have broken images only and are left out: c",)


def test_absent_files_count_as_broken_and_their_class_is_named(data, tmp_path):
    rows = [
        "path,label",
        *(f"data/a/{i:03d}.png,a" for i in range(3)),
        *(f"data/b/{i:03d}.png,b" for i in range(2)),
    ]
    (tmp_path / "m.csv").write_text("\n".join([*rows, "gone.png,c"]), encoding="utf-8")
    found = loaded(tmp_path / "m.csv", tmp_path)
    assert found.skipped == (("gone.png", "no such file or directory"),)
    assert "1 classes have broken images only and are left out: c" in found.notes
    with pytest.raises(TailtuneError, match=r"at most 10% .* but 1 of 6 are \(gone.png: no such file"):
        loaded(tmp_path / "m.csv", tmp_path, max_broken=0.1)


def test_absolute_paths_outside_are_read(data, tmp_path):
    (tmp_path / "lists").mkdir()
    rows = [f"{data}/{name}/{i:03d}.png,{name}" for name in "ab" for i in range(2)]
    (tmp_path / "lists" / "m.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    found = loaded(tmp_path / "lists" / "m.csv", tmp_path, allow_outside=True)
    assert (len(found.images), found.skipped) == (4, ())


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_could_not_be_read_is_tried_again(data, tmp_path):
    (data / "a" / "000.png").chmod(0)
    assert loaded(data, tmp_path).skipped == (("a/000.png", "cannot be read: Permission denied"),)
    (data / "a" / "000.png").chmod(0o644)
    assert loaded(data, tmp_path).skipped == ()


def test_a_read_error_that_passes_is_not_kept(data, tmp_path, monkeypatch):
    def failing(source, *rest):
        if str(source).endswith("a/000.png"):
            raise OSError(errno.EIO, "told by the disk")
        return open_image(source, *rest)

    monkeypatch.setattr(reader, "open_image", failing)
    assert loaded(data, tmp_path).skipped == (("a/000.png", "cannot be read: Input/output error"),)
    monkeypatch.undo()
    assert loaded(data, tmp_path).skipped == ()


def test_huge_images_are_decoded_one_at_a_time(tmp_path):
    save(Image.new("RGBA", (4200, 4200), "red"), tmp_path / "a.png")
    cache.allocate(tmp_path / "images.npy", (1, 16, 16, 3))
    geometry = reader.Geometry((16, 16), "stretch", 3)
    task = (tmp_path / "images.npy", 0, tmp_path, ["a.png"], geometry)
    with ThreadPoolExecutor(1) as pool:
        with cache.locked(tmp_path / "large.lock"):
            waiting = pool.submit(reader.decode_chunk, *task)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=3)
        assert waiting.result(timeout=60).broken == ()
    assert np.load(tmp_path / "images.npy")[0, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("left", [b"", b"garbage", None])
def test_what_is_left_of_an_interrupted_decoding_may_be_damaged(data, tmp_path, monkeypatch, left):
    def full(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loaded(data, tmp_path, progress=full)
    (partial,) = (tmp_path / "cache").glob("*.partial*")
    (partial / "images.npy").unlink() if left is None else (partial / "images.npy").write_bytes(left)
    with open(partial / "done.jsonl", "a") as log:
        log.write("3\n")
    assert len(loaded(data, tmp_path).images) == 5


def test_verified_content_of_an_archive_is_its_bytes(tmp_path):
    images, labels = np.zeros((4, 5, 5), np.uint8), np.array([0, 1, 0, 1])
    prints = []
    for number in range(2):
        np.savez(tmp_path / "a.npz", train_images=images + number, train_labels=labels)
        os.utime(tmp_path / "a.npz", ns=(1, 1))
        prints.append(loaded(tmp_path / "a.npz", tmp_path, verify_content=True).fingerprint)
        os.utime(tmp_path / "a.npz", ns=(2, 2))
        assert loaded(tmp_path / "a.npz", tmp_path, verify_content=True).fingerprint == prints[-1]
    assert prints[0] != prints[1]


def test_too_many_broken_files_are_an_error(data, tmp_path):
    for name in ("000.png", "001.png"):
        (data / "a" / name).write_bytes(b"")
    with pytest.raises(
        TailtuneError, match="at most 25% of the images may be broken or absent, but 2 of 5 are"
    ):
        loaded(data, tmp_path)
    assert len(loaded(data, tmp_path, max_broken=0.5).images) == 3


@pytest.mark.parametrize("size", [(8, 8), None])
def test_nothing_but_broken_files_is_an_error(data, tmp_path, size):
    for path in data.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(TailtuneError) as caught:
        loaded(data, tmp_path, size=size)
    assert "\n" not in str(caught.value)


def test_groups_by_expression_never_cross_a_split(tmp_path):
    for name in ("a", "b"):
        for track in range(6):
            for frame in range(3):
                save(grey(track), tmp_path / "data" / name / f"{track:02d}_{frame}.png")
    dataset = loaded(tmp_path / "data", tmp_path, group_by=r"(\d+)_\d+\.png$")
    assert len(np.unique(dataset.groups)) == 12
    split = make_split(dataset, seed=3)
    tracks = [{dataset.paths[i].rpartition("_")[0] for i in part.tolist()} for part in (split.train, split.val)]
    assert not tracks[0] & tracks[1]
    assert len(split.val) == 6


def test_an_expression_without_groups_takes_the_whole_match(data, tmp_path):
    assert loaded(data, tmp_path, group_by="00[01]").groups.tolist() == [1, 2, 0, 3, 4]


def test_paths_that_do_not_match_stand_alone_and_are_counted(data, tmp_path):
    dataset = loaded(data, tmp_path, group_by="a/")
    assert dataset.notes == ("2 of 5 paths do not match 'a/'; each is a group of its own",)
    assert np.bincount(dataset.groups).tolist() == [3, 1, 1]


def test_expressions_that_cannot_be_meant(data, tmp_path):
    with pytest.raises(UsageError, match=r"must be a regular expression"):
        loaded(data, tmp_path, group_by="(")
    with pytest.raises(UsageError, match=r"matches none of 5.*the first of them is 'a/000.png'"):
        loaded(data, tmp_path, group_by="track")


def test_rare_classes_are_kept_merged_or_dropped(tmp_path):
    root = class_folders(tmp_path / "data", {"a": 5, "b": 2, "c": 1, "d": 5})
    kept = loaded(root, tmp_path, rare_classes="keep", rare_below=3)
    assert kept.class_names == ("a", "b", "c", "d")
    merged = loaded(root, tmp_path, rare_classes="merge", rare_below=3)
    assert merged.class_names == ("a", "d", "other (rare)")
    assert merged.class_counts().tolist() == [5, 5, 3]
    assert merged.paths == kept.paths
    assert "b, c" in merged.notes[0]
    dropped = loaded(root, tmp_path, rare_classes="drop", rare_below=3)
    assert dropped.class_names == ("a", "d")
    assert len(dropped.images) == 10
    assert "b, c" in dropped.notes[0]
    with pytest.raises(TailtuneError, match="must have 9 training images to be kept"):
        loaded(root, tmp_path, rare_classes="drop", rare_below=9)


def test_a_balanced_set_is_cut_to_a_long_tail(tmp_path):
    root = class_folders(tmp_path / "data" / "train", {name: 16 for name in "abcde"})
    class_folders(tmp_path / "data" / "test", {name: 2 for name in "abcde"})
    cut = loaded(root.parent, tmp_path, long_tail=16)
    assert cut.class_counts(np.flatnonzero(cut.given_split == 1)).tolist() == [16, 8, 4, 2, 1]
    assert cut.class_counts(np.flatnonzero(cut.given_split == 3)).tolist() == [2] * 5
    other = loaded(root.parent, tmp_path, long_tail=16, long_tail_seed=1)
    assert other.paths != cut.paths


def test_digits_at_their_own_and_at_another_size(tmp_path):
    own = loaded("digits-lt", tmp_path, size=None)
    assert own.images.shape == (1006, 8, 8, 1)
    larger = loaded("digits-lt", tmp_path, size=(16, 12))
    assert larger.images.shape == (1006, 16, 12, 1)
    assert own.images.max() == 255


def test_an_npz_keeps_its_parts(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 3), dtype=np.uint8)
    labels = np.array([0, 1, 0, 1, 0, 1])
    np.savez(
        tmp_path / "a.npz",
        train_images=images,
        train_labels=labels,
        test_images=images[::-1],
        test_labels=labels[::-1],
    )
    dataset = loaded(tmp_path / "a.npz", tmp_path, size=None)
    np.testing.assert_array_equal(dataset.images, np.concatenate([images, images[::-1]]))
    assert dataset.given_split.tolist() == [1] * 6 + [3] * 6


def test_a_cache_that_cannot_be_written(data, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(TailtuneError, match="cannot write the cache"):
        loaded(data, tmp_path)


def test_a_disk_without_room(tmp_path):
    def fill(folder):
        cache.allocate(folder / "images.npy", (2**62,))
        return []

    with pytest.raises(TailtuneError, match=r"too full for the decoded images.*choose a smaller"):
        cache.open_or_fill(tmp_path / "c", "k", fill)


def test_a_file_that_may_not_grow_leaves_nothing_behind(data, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, hard))
    try:
        with pytest.raises(TailtuneError, match=r"cannot write the cache .*File too large"):
            loaded(data, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size]
    assert len(loaded(data, tmp_path).images) == 5


@pytest.mark.parametrize("processes", [1, 2])
def test_a_disk_that_fills_up_while_decoding(tmp_path, monkeypatch, processes):
    root = class_folders(tmp_path / "data", {"a": 40, "b": 24})
    monkeypatch.setattr(reader, "FEW", 0)
    monkeypatch.setattr(reader, "CHUNK", 4)

    def full(done, total):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(TailtuneError, match=r"too full for the decoded images: No space left"):
        loaded(root, tmp_path, workers=processes, progress=full)
    seen = []
    assert len(loaded(root, tmp_path, progress=lambda done, total: seen.append(done)).images) == 64
    assert seen[0] == 8


LARGER_THAN_MEMORY = """
import resource, sys
from pathlib import Path
from trainable.config import DataConfig
from trainable.data.likeness import thumbnails
from trainable.data.load import load_dataset

mapped = Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]
limit = 1024 * int(mapped) + 160 * 2**20  # OpenBLAS alone takes some 64 MiB
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
data = DataConfig(image_size=(2048, 2048), max_broken=0.5)
images = load_dataset(sys.argv[1], data=data, cache_dir=Path(sys.argv[2])).images
assert images.nbytes == int(sys.argv[3]) * 2**22
assert thumbnails(images).any(axis=(1, 2)).all()
try:
    images.copy()
except MemoryError:
    print("larger than memory")
"""


def read_with_little_memory(source, tmp_path, images):
    words = [sys.executable, "-c", LARGER_THAN_MEMORY, str(source), str(tmp_path / "cache"), str(images)]
    return subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


private_memory = pytest.mark.skipif(
    sys.platform != "linux", reason="the limit counts private memory on Linux only"
)


@private_memory
def test_a_set_larger_than_memory(tmp_path):
    root = class_folders(tmp_path / "data", {"a": 24, "b": 24})
    (root / "a" / "000.png").write_bytes(b"")  # its row is cut out afterwards
    said = read_with_little_memory(root, tmp_path, 47)
    assert said.stdout == "larger than memory\n", said.stderr


@private_memory
def test_an_archive_larger_than_memory(tmp_path):
    one = np.random.default_rng(0).integers(0, 256, (1, 2048, 2048), dtype=np.uint8)
    labels = np.arange(24) % 2
    parts = {f"{part}_images": np.broadcast_to(one, (24, 2048, 2048)) for part in ("train", "val")}
    np.savez(tmp_path / "a.npz", **parts, train_labels=labels, val_labels=labels)
    said = read_with_little_memory(tmp_path / "a.npz", tmp_path, 48)
    assert said.stdout == "larger than memory\n", said.stderr
    assert sorted(path.name for path in (tmp_path / "cache").glob("*/*")) == ["images.npy", "meta.json"]


def test_the_space_of_the_images_is_taken_at_once(tmp_path):
    images = cache.allocate(tmp_path / "x.npy", (3, 1000, 1000, 1))
    assert images.shape == (3, 1000, 1000, 1)
    if hasattr(os, "posix_fallocate"):
        assert os.stat(tmp_path / "x.npy").st_blocks * 512 >= 3_000_000


def test_a_large_cache_opens_at_once(tmp_path):
    def fill(folder):
        cache.allocate(folder / "images.npy", (4096, 256, 256, 1))
        return []

    cache.open_or_fill(tmp_path, "k", fill)
    started = time.perf_counter()
    images = cache.open_or_fill(tmp_path, "k", fill).images
    assert time.perf_counter() - started < 1.0
    assert images.nbytes == 2**28
