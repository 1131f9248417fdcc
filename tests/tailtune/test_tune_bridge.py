"""How many trials are handed out at a time, and with what; no Ray is started."""

from pathlib import Path

import optuna

from analysis.records import TrialState
from tailtune.brake import Brake
from tailtune.exchange import EpochResult
from tailtune.study import Study
from tailtune.study_spec import RetentionSpec
from tailtune.tune_bridge import LedgerSearcher
from tests.tailtune.toy_study import ToySpace, make
from trainable.config import TrialConfig


class Pinned(ToySpace):
    """A space that says with how many threads a trial runs."""

    def suggest(self, trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
        config = super().suggest(trial, base)
        return config.model_copy(update={"training": config.training.model_copy(update={"threads": 1})})


def handed_out(study: Study, space: ToySpace) -> list[tuple[int, int | None]]:
    """Return number and threads of what two slots are given before anything has ended."""
    ledger = study.ledger(space)
    searcher = LedgerSearcher(ledger, Brake(study.folder), 2, alone=2)
    found = [searcher.suggest(name) for name in ("a", "b", "c")]
    assert len(ledger.live) == sum(told is not None for told in found)
    ledger.close()
    return [(told["number"], told["threads"]) for told in found if isinstance(told, dict)]


def test_nothing_runs_beside_the_first_trial(tmp_path: Path) -> None:
    assert handed_out(make(tmp_path, 20, 3), ToySpace()) == [(0, 2)]


def test_threads_of_the_space_are_not_waited_for(tmp_path: Path) -> None:
    assert handed_out(make(tmp_path, 20, 3), Pinned()) == [(0, None), (1, None)]


def test_a_worker_is_told_below_what_its_weights_are_of_no_use(tmp_path: Path) -> None:
    study = make(tmp_path, 20, 3, retention=RetentionSpec(keep_best=1))
    ledger = study.ledger(ToySpace())
    searcher = LedgerSearcher(ledger, Brake(study.folder), 2)
    told = [searcher.suggest("a"), searcher.suggest("b")]
    ledger.result(told[0]["number"], EpochResult(3, 0.4, done=True, final=True, final_value=0.4))
    told.append(searcher.suggest("c"))
    assert [one["weights_from"] for one in told] == [0.0, 0.0, 0.4]


def test_a_first_trial_that_is_refused_now_was_the_first(tmp_path: Path) -> None:
    """Its configuration may name what a later version no longer has; the next trials share the cores."""
    study = make(tmp_path, 20, 3)
    before = study.ledger(ToySpace())
    assert [before.ask().number for _ in range(2)] == [0, 1]
    before.close()
    stored = study.optuna()
    first = optuna.Trial(stored, stored.trials[0]._trial_id)
    first.set_user_attr("config", first.user_attrs["config"] | {"epochs": -1})
    assert handed_out(study, ToySpace()) == [(1, None), (2, None)]
    assert study.status()["trials"][TrialState.FAIL.name] == 1
