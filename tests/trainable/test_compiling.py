"""`torch.compile` by choice: the same training up to rounding, and refusals before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch._dynamo.utils

from analysis.errors import TailtuneError
from analysis.records import RecordFolder
from tests.trainable.test_loop import small
from trainable.data.dataset import ImageDataset, Split
from trainable.loop import fit


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_compiled_trial_learns_what_it_learns_otherwise(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    plain = small(epochs=2, averaging="ema", training={"precision": "fp32"})
    compiles = small(epochs=2, averaging="ema", training={"precision": "fp32", "compile": True})
    assert plain.fingerprint() == compiles.fingerprint()
    one, two = (
        list(fit(config, digits, split, record=RecordFolder(tmp_path / name), device="cpu"))
        for name, config in (("plain", plain), ("compiled", compiles))
    )
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0, "something was compiled"
    for eager, compiled in zip(one, two, strict=True):
        assert eager.row is not None
        assert compiled.row is not None
        assert compiled.row.train_loss == pytest.approx(eager.row.train_loss, rel=0.02)
    again = list(fit(compiles, digits, split, record=RecordFolder(tmp_path / "compiled"), device="cpu"))
    assert again[-1].curve == two[-1].curve


def test_a_machine_without_a_compiler_is_told_so_before_it_trains(
    digits: ImageDataset, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(TailtuneError, match=r"needs a C.. compiler, but there is no no-such") as caught:
        next(fit(small(training={"compile": True}), digits, split, device="cpu"))
    assert caught.value.remedy == "install one, name it in CXX, or leave training.compile off"


@pytest.mark.parametrize(
    "technique",
    [{"deep_supervision": {"name": "stages"}}, {"contrastive": {"name": "supervised"}}],
    ids=["deep_supervision", "contrastive"],
)
def test_what_reads_inside_the_network_does_not_go_with_it(technique: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="takes networks that nothing reads from inside"):
        small(training={"compile": True}, **technique)
