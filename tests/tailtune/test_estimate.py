"""What a dry run reckons from: the trial as it will run, at its dearest."""

from typing import Any

import pytest
import torch

from analysis.errors import TailtuneError
from tailtune.estimate import measure
from tests.trainable.test_loop import small
from trainable import loop
from trainable.config import DataConfig, TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.data.load import load_dataset
from trainable.data.split import make_split

PLAN = {"trials": 4, "concurrent": 2, "threads": 1, "grace_epochs": 1, "reduction_factor": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageDataset, Split]:
    dataset = load_dataset("digits-lt", data=DataConfig(), cache_dir=tmp_path_factory.mktemp("cache"))
    return dataset, make_split(dataset, seed=0)


def test_a_trial_is_timed_on_its_own_threads_and_whole(
    data: tuple[ImageDataset, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, TrialConfig]] = []
    fit = loop.fit

    def watched(config: TrialConfig, *arguments: Any) -> Any:
        seen.append((torch.get_num_threads(), config))
        return fit(config, *arguments)

    monkeypatch.setattr(loop, "fit", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = measure(small(classifier_retraining="crt", epochs=9), *data, **PLAN)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    ((threads, config),) = seen
    assert (threads, config.classifier_retraining.name, config.progressive_resizing.name) == (1, "none", "none")
    assert found.seconds_at_most == pytest.approx(found.seconds * 9 / (1 + 2 / 3 + 6 / 9))


def test_what_diverges_at_once_cannot_be_reckoned_with(data: tuple[ImageDataset, Split]) -> None:
    with pytest.raises(TailtuneError, match="diverged in its first") as error:
        measure(small(optimizer={"name": "sgd", "lr": 100.0, "weight_decay": 1.0}), *data, **PLAN)
    assert "learning rates" in error.value.remedy
