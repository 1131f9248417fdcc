"""Options on the data reach the configuration, so that resume, train and export repeat them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from analysis.errors import UsageError
from tailtune.cli import main
from tailtune.planning import Request, base_config
from tests.trainable.data.images import class_folders, grey, save
from trainable.config import TrialConfig

NET = [
    "--set", "backbone={name: test_resnet, pretrained: false}", "--epochs", "1", "--set", "batch_size=8",
]  # fmt: skip


def test_a_search_records_what_it_was_asked_of_the_data() -> None:
    asked = {
        "long_tail": 10.0, "long_tail_seed": 3, "rare_classes": "merge", "rare_below": 5,
        "allow_outside": True, "verify_content": True, "max_broken": 0.5, "group_by": r"(\d+)_",
    }  # fmt: skip
    recorded = base_config(Request(data="digits-lt", **asked))
    again = TrialConfig.from_yaml(recorded.to_yaml()).data
    assert {name: getattr(again, name) for name in asked} == asked


@pytest.mark.parametrize(
    ("option", "value"), [("long_tail", 0.5), ("rare_classes", "drp"), ("rare_below", 0), ("max_broken", 1.5)]
)
def test_values_that_break_a_law(option: str, value: object) -> None:
    with pytest.raises(UsageError, match=option):
        base_config(Request(data="digits-lt", **{option: value}))


def test_train_takes_the_same_options_and_repeats_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILTUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "c.yaml").write_text("data: {flips: none}\n")
    root = class_folders(tmp_path / "data", {"a": 12, "b": 8, "c": 2})
    (root / "a" / "000.png").write_bytes(b"")
    words = ["train", str(tmp_path / "c.yaml"), str(root), *NET, "--rare-classes", "drop", "--rare-below", "3"]
    assert main([*words, "--out", str(tmp_path / "one"), "--max-broken", "0", "--json"]) == 1
    assert "at most 0% of the images may be broken or absent" in capsys.readouterr().out
    assert main([*words, "--out", str(tmp_path / "one"), "--json"]) == 0
    capsys.readouterr()
    assert json.loads((tmp_path / "one" / "class_names.json").read_text()) == ["a", "b"]
    stored = yaml.safe_load((tmp_path / "one" / "config.yaml").read_text())
    assert stored["data"]["rare_classes"] == "drop"
    again = [
        "train",
        str(tmp_path / "one" / "config.yaml"),
        str(root),
        "--out",
        str(tmp_path / "two"),
        "--json",
    ]
    assert main([*again, "--json"]) == 0
    assert json.loads((tmp_path / "two" / "class_names.json").read_text()) == ["a", "b"]


def test_a_manifest_leaves_its_folder_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["path,label"]
    for i in range(8):
        save(grey(i), tmp_path / "images" / f"{i}.png")
        rows.append(f"../images/{i}.png,{'ab'[i % 2]}")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "all.csv").write_text("\n".join(rows))
    words = ["search", str(tmp_path / "lists" / "all.csv"), "--space", "tiny", "--epochs", "1", "--dry-run"]
    words += ["--home", str(tmp_path / "home"), "--json"]
    assert main(words) == 1
    assert "--allow-outside" in json.loads(capsys.readouterr().out)["error"]["remedy"]
    assert main([*words, "--allow-outside"]) == 0
