"""Bad input through the real command line: one line (law, value, remedy), exit 1 or 2, nothing left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tailtune.cli import main

Maker = Callable[[Path], list[str]]


def images(folder: Path, *classes: str, count: int = 4) -> Path:
    """Write small random images, `count` in each class's folder."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def search(data: str | Path, *more: str) -> list[str]:
    return ["search", str(data), "--space", "tiny", "--trials", "1", "--epochs", "1", *more]


def empty_folder(tmp: Path) -> list[str]:
    (tmp / "empty").mkdir()
    return search(tmp / "empty")


def broken_images(tmp: Path) -> list[str]:
    for name in ("cat", "dog"):
        (tmp / "broken" / name).mkdir(parents=True)
        (tmp / "broken" / name / "a.png").write_bytes(b"no image")
    return search(tmp / "broken")


def file_as_home(tmp: Path) -> list[str]:
    written(tmp / "file", "")
    return [
        "search",
        "digits-lt",
        "--space",
        "tiny",
        "--trials",
        "1",
        "--epochs",
        "1",
        "--home",
        str(tmp / "file"),
    ]


def space_file(text: str) -> Maker:
    return lambda tmp: search("digits-lt", "--space", written(tmp / "mine.yaml", text))


def wrong_weights(tmp: Path) -> list[str]:
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp / "w.pth")
    text = f"extends: tiny\nbackbone: {{choices: [test_resnet], weights: {tmp / 'w.pth'}}}\n"
    return search("digits-lt", "--space", written(tmp / "mine.yaml", text))


def trained(text: str) -> Maker:
    return lambda tmp: ["train", written(tmp / "c.yaml", text), "digits-lt", "--out", str(tmp / "o")]


def teacher_of_other_classes(tmp: Path) -> list[str]:
    folder = tmp / "teacher"
    folder.mkdir()
    preprocessing = {
        "image_size": [8, 8], "resize": "pad", "image_channels": 1, "channels": 1, "mean": [0.5], "std": [0.5],
        "flips": "none", "class_names": ["cat", "dog"],
    }  # fmt: skip
    for name, text in {
        "config.yaml": "epochs: 1\n",
        "model.safetensors": "",
        "preprocessing.json": json.dumps(preprocessing),
    }.items():
        (folder / name).write_text(text)
    return trained(f"distillation: {{name: teacher, folder: {folder}}}\n")(tmp)


CASES: dict[str, tuple[Maker, int, str]] = {
    "missing folder": (lambda tmp: search(tmp / "nowhere"), 1, "nowhere"),
    "unknown built-in": (lambda tmp: search("digits-tl"), 2, "did you mean 'digits-lt'"),
    "folder without images": (empty_folder, 1, "empty"),
    "one class only": (lambda tmp: search(images(tmp / "one", "cat")), 1, "class"),
    "broken files only": (broken_images, 1, "readable"),
    "unknown space": (lambda tmp: search("digits-lt", "--space", "tinny"), 2, "did you mean 'tiny'"),
    "unknown component": (space_file("extends: tiny\nloss: focl\n"), 2, "did you mean 'focal'"),
    "unknown key": (space_file("extends: tiny\nlos: focal\n"), 2, "did you mean 'loss'"),
    "unknown model": (space_file("extends: tiny\nbackbone: resnet18x\n"), 2, "resnet18"),
    "range outside its law": (
        space_file("extends: tiny\noptimizer: {choices: [sgd], sgd: {lr: {low: -1, high: 1}}}\n"),
        2, "optimizer.sgd.lr",
    ),
    "no YAML": (space_file("extends: [tiny\n"), 2, "YAML"),
    "YAML with code": (space_file("extends: !!python/object/apply:os.system ['touch pwned']\n"), 2, "YAML"),
    "no trials": (lambda tmp: search("digits-lt", "--trials", "0"), 2, "--trials must be at least 1, got 0"),
    "no such start": (lambda tmp: search("digits-lt", "--start-from", "v33"), 2, "v3"),
    "start outside the space": (lambda tmp: search("digits-lt", "--start-from", "v3"), 2, "--widen"),
    "weights of another network": (wrong_weights, 1, "must be of test_resnet, but 0 of its"),
    "ray client": (lambda tmp: search("digits-lt", "--address", "ray://h:1"), 2, "ray job submit"),
    "home that is a file": (file_as_home, 1, "--home"),
    "storage that is none": (lambda tmp: search("digits-lt", "--storage", "nonsense"), 2, "--storage"),
    "storage out of reach": (
        lambda tmp: search("digits-lt", "--storage", f"sqlite:///{tmp}/no/such/study.db"), 1, "study.db",
    ),
    "bad regular expression": (lambda tmp: search("digits-lt", "--group-by", "("), 2, "--group-by"),
    "no such study": (lambda tmp: ["rank", "nothing"], 1, "no study called 'nothing'"),
    "no such study to resume": (lambda tmp: ["resume", "nothing"], 1, "no study called 'nothing'"),
    "study elsewhere": (lambda tmp: ["status", "../x"], 2, "got '../x'"),
    "no such recipe": (lambda tmp: ["recipes", "v33"], 2, "v3"),
    "no such space": (lambda tmp: ["spaces", "tinny"], 2, "did you mean 'tiny'"),
    "no such configuration": (
        lambda tmp: ["train", str(tmp / "c.yaml"), "digits-lt", "--out", str(tmp / "o")], 2, "c.yaml",
    ),
    "configuration with a wrong key": (
        lambda tmp: ["train", written(tmp / "c.yaml", "epoch: 3\n"), "digits-lt", "--out", str(tmp / "o")],
        2, "did you mean 'epochs'",
    ),
    "pretrained weights of nowhere": (
        lambda tmp: ["train", "v1", "digits-lt", "--out", str(tmp / "o"), "--set", "backbone.weights=/no/such"],
        2, "/no/such",
    ),
    "mixing with a loss that refuses it": (
        trained("loss: ohem\nmixing: mixup\n"), 2, "loss ohem takes no mixed targets, got mixing mixup",
    ),
    "deep supervision without stages": (
        trained("backbone: torchvision:squeezenet1_1\ndeep_supervision: stages\n"), 2,
        "deep_supervision.auxiliary must be at most",
    ),
    "teacher of other classes": (teacher_of_other_classes, 2, "teacher and student must have the same classes"),
    "more folds than a class has images": (
        trained("data: {folds: 60}\n"), 2, "folds must be at most the images of the smallest class",
    ),
    "two corrections": (
        trained("loss: balanced_softmax\nposthoc: tau_norm\n"), 2, "balanced_softmax+tau_norm_posthoc",
    ),
    "out in use": (
        lambda tmp: [
            "train", written(tmp / "c.yaml", "epochs: 1\n"), "digits-lt",
            "--out", str(images(tmp / "used", "cat")),
        ],
        2, "--out",
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, no network, and a working folder to look for traces in."""
    monkeypatch.setenv("TAILTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_an_exit_status(
    case: str, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker, status, said = CASES[case]
    words = maker(tmp_path)
    assert main([*words, "--json"]) == status
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert said in f"{error['message']}; {error['remedy']}"
    assert "unexpected" not in error["message"]
    assert main(words) == status
    captured = capsys.readouterr()
    last = captured.err.strip().splitlines()
    assert len(last) == 1, captured.err
    assert said in last[0]
    assert len(last[0]) < 700
    assert "Traceback" not in captured.err
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "o").exists()
    assert not list(home.glob("*/study.yaml"))


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_home_without_permission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert main([*search("digits-lt"), "--home", str(tmp_path / "locked" / "home")]) == 1
    assert "--home" in capsys.readouterr().err
