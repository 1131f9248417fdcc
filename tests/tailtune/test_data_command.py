"""`tailtune data`: the JSON contract, the table, the page, the contact sheet."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tailtune.cli import main
from tests.trainable.data.images import class_folders, colour
from trainable.augment import AUGMENT


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = class_folders(tmp_path / "data", {"cat": 12, "<b>dog": 8}, of=colour)
    (root / "cat" / "zz.png").write_bytes((root / "<b>dog" / "000.png").read_bytes())
    (root / "cat" / "000.png").write_bytes(b"no image")
    return root


def test_the_json_contract(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    promised = {
        "num_images", "num_classes", "class_counts", "imbalance_ratio", "skipped", "duplicates",
        "untrusted_classes", "fingerprint",
    }  # fmt: skip
    assert promised <= set(found)
    assert found["class_counts"] == {"cat": 12, "<b>dog": 8}
    assert found["skipped"] == [{"path": "cat/000.png", "reason": "is not an image that can be read"}]
    (copies,) = found["duplicates"]
    assert copies["paths"] == ["<b>dog/000.png", "cat/zz.png"]
    assert copies["across_labels"]


def test_the_table_names_what_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(folder)]) == 0
    said = capsys.readouterr().out
    for expected in ("20 (", "cat/zz.png", "cat/000.png: is not an image", "<b>dog", "--resize"):
        assert expected in said


def test_options_change_what_is_audited(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "digits-lt", "--rare-classes", "drop", "--rare-below", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_classes"] == 6
    assert any("dropped" in note for note in found["notes"])
    assert main(["data", str(folder), "--max-broken", "0"]) == 1
    assert "--max-broken" in capsys.readouterr().err


def test_the_page_holds_everything_and_escapes_names(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", str(folder), "--html", "audit.html"]) == 0
    text = (tmp_path / "audit.html").read_text()
    assert "&lt;b&gt;dog" in text
    assert "<b>dog" not in text
    assert "several labels" in text
    sources = re.findall(r'(?:src|href)="([^"#]+)"', text)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http:" not in text
    assert "https:" not in text


@pytest.mark.parametrize("name", [*AUGMENT.names(), "mixup", "cutmix", "mixup_or_cutmix", "tiny", "v1"])
def test_a_contact_sheet_shows_a_row_for_each_class(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", str(folder), "--show-augment", name, "--sheet", "sheet.png"]) == 0
    first = (tmp_path / "sheet.png").read_bytes()
    sheet = Image.open(io.BytesIO(first))
    assert sheet.height == 2 * 67
    pictures = np.asarray(sheet.convert("RGB"))
    for row in range(2):
        tiles = [
            pictures[row * 67 : row * 67 + 64, 193 + i * 67 : 257 + i * 67].tobytes() for i in range(1, 11)
        ]
        assert len(set(tiles)) >= 2, "the draws of a row differ"
        assert tiles.count(pictures[row * 67 : row * 67 + 64, 190:254].tobytes()) < 10
    assert main(["data", str(folder), "--show-augment", name, "--sheet", "sheet.png"]) == 0
    assert (tmp_path / "sheet.png").read_bytes() == first
    assert "sheet.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--show-augment", "flp"], "did you mean 'flip'"),
        (["--show-augment", "flip", "--sheet", "x.txt"], "--sheet must name a .png file"),
        (["--resize", "padd"], "resize"),
        (["--long-tail", "0.5"], "long_tail"),
    ],
)
def test_wrong_use(words: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(folder), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
