import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import TailtuneError, UsageError
from trainable.data.dataset import ImageDataset, Split
from trainable.data.split import load_split, make_split, save_split


def dataset(labels, given_split=None, groups=None):
    labels = np.asarray(labels, dtype=np.int64)
    n = len(labels)
    return ImageDataset(
        images=np.zeros((n, 4, 4, 1), dtype=np.uint8),
        labels=labels,
        class_names=tuple(f"c{i}" for i in range(labels.max() + 1)),
        fingerprint="f",
        source="made",
        given_split=np.zeros(n, dtype=np.int8)
        if given_split is None
        else np.asarray(given_split, dtype=np.int8),
        paths=tuple(f"{i}.png" for i in range(n)),
        groups=None if groups is None else np.asarray(groups, dtype=np.int64),
    )


counts = st.lists(st.integers(1, 60), min_size=2, max_size=12).filter(lambda of: max(of) > 1)


@settings(max_examples=150, deadline=None)
@given(counts, st.integers(0, 2**32), st.floats(0.05, 0.45), st.sampled_from([0.0, 0.1, 0.3]))
def test_every_image_has_one_part_and_every_class_its_due(counts, seed, validation, test):
    data = dataset(np.repeat(np.arange(len(counts)), counts))
    split = make_split(data, seed=seed, validation_fraction=validation, test_fraction=test)
    everything = np.concatenate([split.train, split.val, split.test])
    np.testing.assert_array_equal(np.sort(everything), np.arange(len(data.labels)))
    for part in (split.train, split.val, split.test):
        assert np.all(np.diff(part) > 0)
    train, val, tested = (data.class_counts(part) for part in (split.train, split.val, split.test))
    for n, in_train, in_val, in_test in zip(counts, train, val, tested, strict=True):
        assert in_train >= 1
        assert (in_val >= 1) == (n >= 2)
        assert (in_test >= 1) == (n >= 3 and test > 0)
        assert abs(in_val - validation * n) <= 1.0 or n < 4
        assert abs(in_test - test * n) <= 1.0
    singles = [f"c{i}" for i, n in enumerate(counts) if n == 1]
    assert bool(singles) == any("single image (" in note for note in split.notes)
    assert all(any(name in note for note in split.notes) for name in singles)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8)), min_size=10, max_size=120), st.integers(0, 99))
def test_groups_stay_whole(pairs, seed):
    pairs = [*pairs, (0, 9), (0, 10), (1, 0), (2, 0), (3, 0)]
    labels = [label for label, _ in pairs]
    groups = [100 * label + group for label, group in pairs]
    data = dataset(labels, groups=groups)
    split = make_split(data, seed=seed)
    in_train, in_val = set(data.groups[split.train].tolist()), set(data.groups[split.val].tolist())
    assert not in_train & in_val
    for label in range(4):
        units = {group for of, group in zip(labels, groups, strict=True) if of == label}
        assert bool(units & in_val) == (len(units) >= 2)
        assert units & in_train


group_sizes = st.lists(st.integers(1, 12), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(group_sizes, min_size=2, max_size=6).filter(lambda of: max(map(len, of)) > 1),
    st.integers(0, 2**32),
    st.floats(0.05, 0.45),
    st.sampled_from([0.0, 0.2]),
)
def test_groups_of_any_size(classes, seed, validation, test):
    labels = [label for label, sizes in enumerate(classes) for size in sizes for _ in range(size)]
    groups = np.repeat(np.arange(sum(map(len, classes))), [size for sizes in classes for size in sizes])
    data = dataset(labels, groups=groups)
    split = make_split(data, seed=seed, validation_fraction=validation, test_fraction=test)
    again = make_split(data, seed=seed, validation_fraction=validation, test_fraction=test)
    parts = [split.train, split.val, split.test]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    for part, same in zip(parts, (again.train, again.val, again.test), strict=True):
        np.testing.assert_array_equal(part, same)
    trained, validated, tested = (set(data.groups[part].tolist()) for part in parts)
    assert len(trained | validated | tested) == len(trained) + len(validated) + len(tested)
    in_val = data.class_counts(split.val)
    for label, sizes in enumerate(classes):
        of_class = set(data.groups[data.labels == label].tolist())
        assert of_class & trained
        assert bool(of_class & validated) == (len(sizes) >= 2)
        assert bool(of_class & tested) == (len(sizes) >= 3 and test > 0)
        if test == 0 and len(sizes) >= 2:  # as near to its share as whole groups allow
            assert abs(in_val[label] - validation * sum(sizes)) <= max(sizes)
    alone = [f"c{label}" for label, sizes in enumerate(classes) if len(sizes) == 1]
    said = [note for note in split.notes if "single group of images" in note]
    assert bool(alone) == bool(said)
    assert all(name in note for note in said for name in alone)


def test_the_seed_alone_decides():
    data = dataset(np.repeat(np.arange(5), 40))
    one, same, other = (make_split(data, seed=seed).val for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_another_process_makes_the_same_split():
    program = (
        "from tests.trainable.data.test_split import dataset; from trainable.data.split import make_split;"
        "print(make_split(dataset([0] * 9 + [1] * 9), seed=7).val.tolist())"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert answer.strip() == str(make_split(dataset([0] * 9 + [1] * 9), seed=7).val.tolist())


def test_the_split_of_a_seed_never_changes():
    assert make_split(dataset([0] * 10 + [1] * 5), seed=0).val.tolist() == [6, 8, 11]


def test_given_parts_are_kept():
    given_split = [1, 1, 2, 3, 1, 1, 2, 3, 0]
    split = make_split(dataset([0, 0, 0, 0, 1, 1, 1, 1, 1], given_split), seed=0, test_fraction=0.5)
    assert split.train.tolist() == [0, 1, 4, 5, 8]
    assert split.val.tolist() == [2, 6]
    assert split.test.tolist() == [3, 7]


def test_a_given_test_is_never_validated_on():
    split = make_split(dataset([0] * 20 + [1] * 20, [3] * 10 + [1] * 10 + [3] * 10 + [1] * 10), seed=0)
    assert split.test.tolist() == [*range(10), *range(20, 30)]
    assert len(split.val) == 4


def test_what_a_given_part_lacks_is_named():
    split = make_split(dataset([0, 0, 0, 1, 1], [1, 2, 3, 1, 3]), seed=0)
    assert split.notes == ("classes without validation images (1) do not count there: c1",)


def test_a_given_leak_is_named():
    split = make_split(dataset([0] * 4 + [1] * 4, [1, 1, 1, 3, 1, 1, 1, 3], [0, 1, 2, 2, 3, 4, 5, 6]), seed=0)
    assert any("several parts, as the data give them: 1;" in note for note in split.notes)


def test_the_smallest_group_validates_where_any_is_too_large():
    split = make_split(dataset([0] * 10 + [1] * 2, groups=[0] * 7 + [1] * 3 + [2, 3]), seed=0)
    assert split.val.tolist()[:-1] == [7, 8, 9]


def test_nothing_to_validate_with_is_an_error():
    with pytest.raises(TailtuneError, match="validation needs a class with two images"):
        make_split(dataset([0, 1, 2]), seed=0)


def test_a_class_that_only_a_given_validation_has_is_an_error():
    with pytest.raises(TailtuneError, match="none is left for: c1"):
        make_split(dataset([0, 0, 1], [1, 2, 2]), seed=0)


@pytest.mark.parametrize(("validation", "test"), [(0, 0), (1, 0), (-0.1, 0), (0.2, 1), (0.5, 0.5), (0.2, -0.1)])
def test_fractions_have_a_law(validation, test):
    with pytest.raises(UsageError, match="must lie in"):
        make_split(dataset([0, 0, 1, 1]), seed=0, validation_fraction=validation, test_fraction=test)


def test_a_stored_split_comes_back(tmp_path):
    split = Split(np.arange(5), np.arange(5, 7), np.arange(0), ("a note",))
    path = tmp_path / "study" / "split.npz"
    save_split(split, path, fingerprint="abc")
    loaded = load_split(path, fingerprint="abc")
    for name in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(split, name))
        assert getattr(loaded, name).dtype == np.int64
    assert loaded.notes == split.notes
    assert [file.name for file in path.parent.iterdir()] == ["split.npz"]


def test_a_split_without_notes_comes_back(tmp_path):
    save_split(Split(np.arange(2), np.arange(2, 3), np.arange(0)), tmp_path / "split.npz", fingerprint="abc")
    assert load_split(tmp_path / "split.npz", fingerprint="abc").notes == ()


def test_the_split_of_other_data_is_refused(tmp_path):
    save_split(Split(np.arange(2), np.arange(2, 3), np.arange(0)), tmp_path / "split.npz", fingerprint="abc")
    with pytest.raises(TailtuneError, match="made for \\(abc\\), got other"):
        load_split(tmp_path / "split.npz", fingerprint="other")


def test_a_broken_split_is_refused(tmp_path):
    (tmp_path / "split.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(TailtuneError, match="must hold a split"):
        load_split(tmp_path / "split.npz", fingerprint="abc")
    with pytest.raises(TailtuneError, match="must hold a split"):
        load_split(tmp_path / "absent.npz", fingerprint="abc")
