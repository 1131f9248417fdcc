import gc

import numpy as np
import pytest

from analysis.errors import TailtuneError
from tests.trainable.data.images import class_folders, grey
from trainable.config import DataConfig
from trainable.data.load import load_dataset

datasets = pytest.importorskip("datasets")


def rows(count, seed=0, **columns):
    return datasets.Dataset.from_dict(
        {"image": [grey(seed + i) for i in range(count)], "label": [i % 2 for i in range(count)], **columns},
        features=datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
            | {name: datasets.Value("string") for name in columns}
        ),
    )


def loaded(root, tmp_path):
    return load_dataset(str(root), data=DataConfig(), cache_dir=tmp_path / "cache")


def test_a_saved_set_keeps_pixels_names_groups(tmp_path):
    rows(6, group=list("aabbcc")).save_to_disk(tmp_path / "saved")
    found = loaded(tmp_path / "saved", tmp_path)
    assert found.class_names == ("cat", "dog")
    assert found.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert not found.given_split.any()
    assert found.groups is not None
    for i in range(6):
        np.testing.assert_array_equal(found.images[i, :, :, 0], np.asarray(grey(i)))


def test_saved_parts_are_kept(tmp_path):
    datasets.DatasetDict(train=rows(4), test=rows(2, seed=9)).save_to_disk(tmp_path / "saved")
    found = loaded(tmp_path / "saved", tmp_path)
    assert found.given_split.tolist() == [1, 1, 1, 1, 3, 3]


def test_a_missing_column_is_named(tmp_path):
    rows(4).rename_column("label", "fine_label").save_to_disk(tmp_path / "saved")
    with pytest.raises(TailtuneError, match="label is missing \\(found: image, fine_label\\)"):
        loaded(tmp_path / "saved", tmp_path)


def test_an_image_folder_without_metadata_is_a_folder(tmp_path):
    found = loaded(class_folders(tmp_path / "data", {"a": 2, "b": 2}), tmp_path)
    assert found.paths[0] == "a/000.png"


@pytest.mark.filterwarnings("ignore:.*metadata.csv:pytest.PytestUnraisableExceptionWarning")
def test_an_image_folder_with_metadata_takes_its_labels_from_there(tmp_path):
    root = class_folders(tmp_path / "data", {"all": 4})
    lines = [f"all/{i:03d}.png,{label}" for i, label in enumerate(["dog", "cat", "dog", "cat"])]
    (root / "metadata.csv").write_text("\n".join(["file_name,label", *lines]) + "\n", encoding="utf-8")
    found = loaded(root, tmp_path)
    assert found.class_names == ("cat", "dog")
    assert found.labels.tolist() == [1, 0, 1, 0]
    for i in range(4):
        np.testing.assert_array_equal(found.images[i, :, :, 0], np.asarray(grey(i)))
    gc.collect()  # `datasets` leaves the metadata file open; the warning belongs to this test


def test_group_zero_is_a_group(tmp_path):
    found = rows(8).add_column("group", [0, 0, 0, 0, 1, 1, 1, 1])
    found.save_to_disk(tmp_path / "saved")
    groups = loaded(tmp_path / "saved", tmp_path).groups
    assert groups is not None
    assert len(set(groups.tolist())) == 4  # two groups in each of two classes


def test_rows_without_image_or_label_are_named(tmp_path):
    found = datasets.Dataset.from_dict(
        {"image": [grey(0), grey(1), None, grey(3), grey(4), grey(5)], "label": [0, 1, 0, -1, None, 1]},
        features=datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
        ),
    )
    found.save_to_disk(tmp_path / "saved")
    data = load_dataset(str(tmp_path / "saved"), data=DataConfig(max_broken=0.5), cache_dir=tmp_path / "cache")
    assert data.labels.tolist() == [0, 1, 1]
    assert data.skipped == (("row 2", "has no image"), ("row 3", "has no label"), ("row 4", "has no label"))


def test_a_table_of_notes_makes_no_imagefolder(tmp_path):
    root = class_folders(tmp_path / "data", {"a": 2, "b": 2})
    (root / "a" / "metadata.csv").write_text("camera,date\nc1,2020\n", encoding="utf-8")
    assert loaded(root, tmp_path).class_names == ("a", "b")
