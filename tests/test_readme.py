"""The README's commands run as they stand there, and print what it says that they print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from search_spaces.space import SearchSpace
from tailtune.cli import main
from trainable.config import TrialConfig
from trainable.optimizers.sgd import Sgd

README = Path(__file__).parent.parent / "README.md"


def block(language: str, *, after: str = "") -> str:
    """Return the first fenced block in `language` that follows `after`."""
    text = README.read_text(encoding="utf-8")
    found = re.search(rf"```{language}\n(.*?)```", text[text.index(after) :], flags=re.DOTALL)
    assert found is not None
    return found.group(1)


def commands(marker: str) -> list[list[str]]:
    """Return the words of each command in the block that follows a marker, `tailtune` left out."""
    lines = block("console", after=f"<!-- readme: {marker} -->").splitlines()
    return [line.removeprefix("$ ").split()[1:] for line in lines if line.startswith("$ tailtune")]


def shape(text: str) -> set[str]:
    """Return the lines with numbers, drawn lines and runs of space taken out: what does not change."""
    lines = (re.sub(r"[\d.:%]+|[^\x00-\x7f]|\s+", " ", line) for line in text.splitlines())
    return {" ".join(line.split()) for line in lines if re.search("[a-z]{3}", line)}


@pytest.mark.slow
@pytest.mark.timeout(1800)  # 227 s on two busy cores, and the default is 300
def test_the_commands_run_and_print_what_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILTUNE_HOME", str(tmp_path / "runs"))
    printed = ""
    for words in [*commands("search"), *commands("after")]:
        ran = subprocess.run(
            [sys.executable, "-m", "tailtune", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert ran.returncode == 0, (words, ran.stderr)
        printed += ran.stdout
    shown = block("text", after="<!-- readme: search -->")
    headings = {line for line in shape(shown) if "macro-F" in line or line.startswith("tailtune ")}
    assert headings
    assert headings <= shape(printed)


def test_every_other_command_of_the_readme_exists(capsys: pytest.CaptureFixture[str]) -> None:
    text = README.read_text(encoding="utf-8")
    verbs = set(re.findall(r"(?:\$ |`)tailtune ([a-z-]+)", text))
    assert {"search", "resume", "rank", "export", "train", "dashboard", "doctor", "spaces"} <= verbs
    for verb in sorted(verbs):
        assert main([verb, "--help"]) == 0, verb
        capsys.readouterr()
    options = set(re.findall(r"tailtune search .*?(--[a-z-]+)", text))
    assert main(["search", "--help"]) == 0
    offered = capsys.readouterr().out
    assert {option for option in options if option not in offered} == set()


def test_the_space_of_the_readme_is_one() -> None:
    space = SearchSpace.from_yaml(block("yaml"), "README.md")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    configs = [space.suggest(study.ask(), TrialConfig()) for _ in range(60)]
    assert {config.schedule.name for config in configs} == {"cosine"}
    assert {config.loss.name for config in configs} == {"cross_entropy", "focal"}
    assert {config.backbone.name for config in configs} == {"resnet18", "efficientnet_b0"}
    sgd = [config.optimizer for config in configs if isinstance(config.optimizer, Sgd)]
    assert all(0.003 <= optimizer.lr <= 0.3 and optimizer.momentum == 0.9 for optimizer in sgd)
    assert sgd
