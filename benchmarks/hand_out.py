"""P4: from a trial being handed out to its first training step, in a warm worker, against stock Ray Tune.

    python -m benchmarks.hand_out [--rounds 5]

Ours: a search as `tailtune search` runs it; its first trial, which starts the worker, is left out. Stock:
OptunaSearch around a function that trains the same configuration with the same loop, a new process for each
trial. Both in the same Ray, in turn, a round a search; the clock starts when the searcher has drawn the trial,
and stops as the first batch reaches the first step.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from benchmarks.studies import A_GPU, Pinned, study_in
from benchmarks.table import Row, run, shown
from tailtune.ray_runtime import connected_ray
from tailtune.search import run_search
from trainable.config import DataConfig, TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.data.load import load_dataset
from trainable.data.split import make_split
from trainable.step import Stepper
from trainable.tune_adapter import ImageTrainable, SharedData

TRIALS = 4
"""Of each search, the first left out of ours."""
FIRST_STEP = "first_step.json"


def note_first_step(record: str) -> None:
    """Have the next step of this process write the time into the trial's folder."""
    step, noted = Stepper.__call__, Path(record) / FIRST_STEP

    def timed(self: Stepper, batch: Any) -> Any:
        noted.write_text(json.dumps(time.time()))
        Stepper.__call__ = step
        return step(self, batch)

    Stepper.__call__ = timed


class Timed(ImageTrainable):
    """Says when its first step was."""

    def _begin(self, config: dict[str, Any]) -> None:
        super()._begin(config)
        note_first_step(config["record"])


class Handing(Pinned):
    """Notes when each trial was drawn: what follows, the ledger's own writing, counts as handing out."""

    def __init__(self, config: TrialConfig) -> None:
        super().__init__(config)
        self.times: list[float] = []

    def suggest(self, trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
        """Suggest, and look at the clock."""
        config = super().suggest(trial, base)
        self.times.append(time.time())
        return config

    def __call__(self, trial: optuna.Trial) -> dict[str, Any]:
        """Suggest as `OptunaSearch` wants it."""
        return {"config": self.suggest(trial, self.config).model_dump_json(), "number": trial.number}


def ours(home: Path, config: TrialConfig, dataset: ImageDataset, split: Split) -> list[float]:
    """Return the seconds of each trial but the first."""
    study, space = study_in(home, "pinned", trials=TRIALS, epochs=1, base=config, gpus=A_GPU), Handing(config)
    run_search(
        study,
        space,
        Timed,
        shared=lambda _: {"data": SharedData.put(dataset, split), "threads": 1, "cache_dir": home / "cache"},
    )
    firsts = [json.loads((study.folder / "trials" / str(n) / FIRST_STEP).read_text()) for n in range(TRIALS)]
    return [first - handed for first, handed in zip(firsts, space.times, strict=True)][1:]


def stock(home: Path, config: TrialConfig, dataset: ImageDataset, split: Split) -> list[float]:
    """Return the seconds of each trial."""
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = Path(tempfile.mkdtemp(dir=home))

    def train(given: dict[str, Any], images: Any, rest: ImageDataset) -> None:
        from trainable.loop import fit

        warnings.filterwarnings("ignore")
        record = folder / str(given["number"])
        record.mkdir()
        note_first_step(str(record))
        one = TrialConfig.model_validate_json(given["config"])
        for report in fit(one, rest.with_images(images), split, cache_dir=home / "cache"):
            tune.report({"macro_f1": report.macro_f1})

    space = Handing(config)
    shared = {"images": np.array(dataset.images), "rest": dataset.with_images(dataset.images[:0])}
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train, **shared), {"cpu": 1, "gpu": A_GPU}),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(space=space, metric="macro_f1", mode="max", seed=0),
            num_samples=TRIALS,
            max_concurrent_trials=1,
        ),
        run_config=tune.RunConfig(name="stock", storage_path=str(folder / "tune"), verbose=0),
    )
    for error in tuner.fit().errors:
        raise error
    firsts = [json.loads((folder / str(n) / FIRST_STEP).read_text()) for n in range(TRIALS)]
    return [first - handed for first, handed in zip(firsts, space.times, strict=False)]


def rows(rounds: int) -> Iterator[Row]:
    """Yield the time itself, and its share of stock Ray Tune's."""
    warnings.filterwarnings("ignore")
    data = DataConfig(flips="none")
    config = TrialConfig.model_validate({"epochs": 1, "data": data, "backbone": "resnet10t", "batch_size": 64})
    warm: list[float] = []
    shares: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        dataset = load_dataset("digits-lt", data=data, cache_dir=home / "cache")
        split = make_split(dataset, seed=0)
        with connected_ray(home / "ray-home", 1):
            for _ in range(rounds):
                mine, theirs = ours(home, config, dataset, split), stock(home, config, dataset, split)
                warm.append(statistics.median(mine))
                shares.append(warm[-1] / statistics.median(theirs))
    what = "hand-out to first step, warm worker (median of a search)"
    yield Row("P4", what, "under 0.3 s", shown(warm, 3, " s"), statistics.median(warm) < 0.3)
    what = "the same over stock Ray Tune, function trainable"
    yield Row("P4", what, "under 0.10", shown(shares, 3), statistics.median(shares) < 0.1)


if __name__ == "__main__":
    run(rows, __doc__)
