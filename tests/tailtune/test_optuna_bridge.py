"""The ledger's laws on real storages: states, curves, counting, seeds, resuming. No Ray."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState as OptunaState

from analysis.errors import TailtuneError
from analysis.records import RecordFolder, TrialState
from tailtune.algorithm import enqueue
from tailtune.exchange import EpochResult, Observer
from tailtune.optuna_bridge import Ledger
from tailtune.study import Study
from tests.tailtune.toy_study import ToySpace, make, spec
from tests.tailtune.toy_trainable import curve
from trainable.config import TrialConfig


@pytest.fixture(params=["sqlite", "journal"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> Study:
    storage = "journal:study.log" if request.param == "journal" else None
    return Study.create(tmp_path, spec(trials=5, epochs=4), storage=storage)


def trials(study: Study) -> list[optuna.trial.FrozenTrial]:
    return Study.open(study.folder.parent, study.name).optuna().trials


def last(epoch: int, value: float) -> EpochResult:
    return EpochResult(epoch, value, done=True, final=True, final_value=value, cost={"wall_seconds": 1.0})


def run(ledger: Ledger, number: int, config: TrialConfig, upto: int | None = None, start: int = 1) -> bool:
    """Train a trial as the toy would; return whether it has ended."""
    for epoch in range(start, (upto or config.epochs) + 1):
        value = curve(config, epoch)
        result = last(epoch, value) if epoch == config.epochs else EpochResult(epoch, value, host="here")
        if ledger.result(number, result):
            return True
    return False


def run_all(ledger: Ledger) -> None:
    while (assignment := ledger.ask("ray")) is not None:
        run(ledger, assignment.number, assignment.config)
    ledger.close()


def test_every_epoch_is_an_intermediate_value_the_stopping_one_included(study: Study) -> None:
    run_all(study.ledger(ToySpace()))
    states = set()
    for trial in trials(study):
        config = TrialConfig.model_validate(trial.user_attrs["config"])
        epochs = sorted(trial.intermediate_values)
        assert epochs == list(range(1, len(epochs) + 1))
        assert all(value == curve(config, epoch) for epoch, value in trial.intermediate_values.items())
        assert (trial.state.name == "COMPLETE") == (epochs[-1] == 4)
        assert trial.value == trial.intermediate_values[epochs[-1]]
        states.add(trial.state.name)
    assert states == {"COMPLETE", "PRUNED"}


def test_trial_carries_config_ray_id_host_record_and_cost_and_the_record_its_number(study: Study) -> None:
    run_all(study.ledger(ToySpace()))
    for trial in trials(study):
        record = RecordFolder(trial.user_attrs["record"])
        assert (
            TrialConfig.from_yaml(record.config_yaml or "").model_dump(mode="json")
            == trial.user_attrs["config"]
        )
        assert record.trial is not None
        assert (record.trial.number, record.trial.state.name) == (trial.number, trial.state.name)
        assert record.trial.params == trial.params
        assert trial.user_attrs["ray_id"] == "ray"
        assert trial.user_attrs["host"] == "here"
        if trial.state.name == "COMPLETE":
            assert trial.user_attrs["cost"] == {"wall_seconds": 1.0}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_diverges_and_never_reaches_optuna(study: Study, value: float) -> None:
    ledger = study.ledger(ToySpace())
    first, second = ledger.ask(), ledger.ask()
    assert first is not None
    assert second is not None
    assert ledger.result(first.number, EpochResult(1, value))
    ledger.result(second.number, EpochResult(1, 0.4))
    assert ledger.result(second.number, EpochResult(2, 0.0, done=True, final=True, diverged="loss is nan"))
    one, two = trials(study)
    assert (one.state.name, one.value, one.intermediate_values) == ("PRUNED", None, {})
    assert "not finite" in one.user_attrs["reason"] or str(value) in one.user_attrs["reason"]
    assert (two.state.name, two.intermediate_values) == ("PRUNED", {1: 0.4})
    assert two.user_attrs["diverged"] == "loss is nan"


def test_a_crash_is_fail_and_counts(study: Study) -> None:
    ledger = study.ledger(ToySpace())
    assignment = ledger.ask()
    assert assignment is not None
    ledger.failed(assignment.number, "RuntimeError: broken")
    assert ledger.ended == 1
    assert trials(study)[0].state.name == "FAIL"
    assert trials(study)[0].user_attrs["reason"] == "RuntimeError: broken"


def test_a_final_result_without_a_value_is_fail(study: Study) -> None:
    ledger = study.ledger(ToySpace())
    assignment = ledger.ask()
    assert assignment is not None
    assert ledger.result(assignment.number, EpochResult(1, 0.5, done=True, final=True, final_value=math.nan))
    assert trials(study)[0].state.name == "FAIL"


def test_a_lost_worker_is_no_fault_of_the_trial_unless_it_gets_no_further(study: Study) -> None:
    ledger = study.ledger(ToySpace())
    assignment = ledger.ask()
    assert assignment is not None
    config = assignment.config
    for reached in (1, 2, 3):  # always an epoch further
        again = assignment if reached == 1 else ledger.ask()
        assert again is not None
        assert (again.number, again.config) == (0, config)
        ledger.result(0, EpochResult(reached, curve(config, reached)))
        ledger.lost(0, "node died")
    for _ in range(2):  # and no further
        assert ledger.ask() is not None
        ledger.lost(0, "node died")
    assert trials(study)[0].state.name == "FAIL"
    assert sorted(trials(study)[0].intermediate_values) == [1, 2, 3]


def test_a_worker_that_is_lost_while_it_catches_up_gets_further_with_its_checkpoint(study: Study) -> None:
    ledger = study.ledger(ToySpace())
    assignment = ledger.ask()
    assert assignment is not None
    run(ledger, 0, assignment.config, upto=3)
    ledger.lost(0, "node died")
    for checkpoint in (1, 2, 3):  # each time a newer one, though no epoch that the study had not heard of
        assert ledger.ask() is not None
        assert not ledger.result(0, EpochResult(checkpoint, curve(assignment.config, checkpoint)))
        ledger.lost(0, "node died")
    assert trials(study)[0].state.name == "WAITING"
    for _ in range(2):
        assert ledger.ask() is not None
        ledger.result(0, EpochResult(3, curve(assignment.config, 3)))
        ledger.lost(0, "node died")
    assert trials(study)[0].state.name == "FAIL"


def test_a_trial_that_goes_on_from_an_older_checkpoint_is_not_judged_again_at_the_rungs_it_has_passed(
    tmp_path: Path,
) -> None:
    study = make(tmp_path, 6, 8, grace=2, factor=2)
    ledger = study.ledger(ToySpace())
    slow = ledger.ask()
    assert slow is not None
    for epoch in (1, 2, 3):
        assert not ledger.result(slow.number, EpochResult(epoch, 0.1 * epoch))
    ledger.lost(slow.number, "node died")
    again = ledger.ask()
    assert again is not None
    assert again.number == slow.number
    rivals = [ledger.ask() for _ in range(3)]
    for rival in rivals:
        assert rival is not None
        for epoch in (1, 2):
            assert not ledger.result(rival.number, EpochResult(epoch, 0.8 + 0.01 * rival.number))
    assert not ledger.result(again.number, EpochResult(2, 0.2)), "by now it is the worst of four at this rung"
    assert not ledger.result(again.number, EpochResult(3, 0.9)), "the study keeps what it was told first"
    assert trials(study)[slow.number].intermediate_values == {1: 0.1, 2: 0.2, 3: pytest.approx(0.3)}
    for rival in rivals:
        assert rival is not None
        for epoch in (3, 4):
            ledger.result(rival.number, EpochResult(epoch, 0.9))
    assert ledger.result(again.number, EpochResult(4, 0.4)), "a new rung judges it"


def test_killed_driver_leaves_trials_that_go_on_under_their_numbers(study: Study) -> None:
    ledger = study.ledger(ToySpace())
    first, second = ledger.ask(), ledger.ask()
    assert first is not None
    assert second is not None
    run(ledger, first.number, first.config)
    run(ledger, second.number, second.config, upto=2)
    # The driver dies here: no close.
    assert [trial.state.name for trial in trials(study)] == ["COMPLETE", "RUNNING"]
    resumed = Study.open(study.folder.parent, study.name).ledger(ToySpace())
    assert trials(study)[1].state.name == "WAITING"
    again = resumed.ask()
    assert again is not None
    assert (again.number, again.config) == (1, second.config)
    assert again.attempt != second.attempt
    # Its checkpoint holds epoch 3, whose report was lost with the driver: re-reported with the history.
    history = [(epoch, curve(again.config, epoch)) for epoch in (1, 2, 3)]
    resumed.result(1, EpochResult(3, history[-1][1], history=history))
    run(resumed, 1, again.config, start=4)
    run_all(resumed)
    done = trials(study)
    assert len(done) == 5
    assert sorted(done[1].intermediate_values) == [1, 2, 3, 4]
    assert {trial.state.name for trial in done} <= {"COMPLETE", "PRUNED"}


def test_orphan_without_configuration_is_replaced_and_not_counted(study: Study) -> None:
    run_all(study.ledger(ToySpace()))
    study.resize(6)
    study.optuna().ask()  # the driver dies before the configuration is written
    resumed = Study.open(study.folder.parent, study.name)
    run_all(resumed.ledger(ToySpace()))
    done = trials(study)
    assert len(done) == 7
    assert done[5].state.name == "FAIL"
    assert "replaced" in done[5].user_attrs
    assert len(resumed.records()) == 6
    assert resumed.status()["trials"] == resumed.status()["trials"] | {"FAIL": 0, "RUNNING": 0, "WAITING": 0}
    assert resumed.status()["state"] == "finished"


def test_killed_between_the_mark_and_the_end_of_a_replaced_trial(study: Study) -> None:
    orphan = study.optuna().ask()
    orphan.set_user_attr("replaced", "killed in between")
    run_all(study.ledger(ToySpace()))
    assert trials(study)[0].state.name == "FAIL"
    assert len(trials(study)) == 6


def test_rungs_come_back(study: Study) -> None:
    def outcome(interrupt: bool) -> list[tuple[str, list[int]]]:
        home = study.folder.parent / f"home-{interrupt}"
        mine = make(home, 12, 9, factor=3)
        ledger = mine.ledger(ToySpace())
        while (assignment := ledger.ask()) is not None:
            run(ledger, assignment.number, assignment.config)
            if interrupt:
                ledger = Study.open(home, "toy").ledger(ToySpace())
        ledger.close()
        return [(trial.state.name, sorted(trial.intermediate_values)) for trial in mine.optuna().trials]

    assert outcome(True) == outcome(False)  # the suggestions too: each has a seed of its own
    assert any(state == "PRUNED" for state, _ in outcome(False))


def test_interrupted_search_leaves_waiting_and_finished_one_nothing(study: Study) -> None:
    ledger = study.ledger(ToySpace())
    assignment = ledger.ask()
    assert assignment is not None
    run(ledger, assignment.number, assignment.config, upto=1)
    ledger.close()
    waiting = trials(study)[0]
    assert (waiting.state.name, waiting.intermediate_values) == ("WAITING", {1: curve(assignment.config, 1)})
    info = RecordFolder(assignment.record).trial
    assert info is not None
    assert info.state is TrialState.WAITING


def test_starting_points_come_first_once_and_survive_a_kill(study: Study) -> None:
    points = [("v1", {"optimizer.lr": 0.5}), ("v3", {"optimizer.lr": 0.25})]
    for _ in range(3):
        enqueue(study.optuna(), points)
    # Killed after taking a starting point, before its configuration was written: drawn again, not replaced.
    study.optuna().ask()
    run_all(study.ledger(ToySpace()))
    done = trials(study)
    assert len(done) == 5
    assert [trial.params["optimizer.lr"] for trial in done[:2]] == [0.5, 0.25]
    assert [trial.user_attrs["start_from"] for trial in done[:2]] == ["v1", "v3"]
    assert [trial.number for trial in done if "start_from" in trial.user_attrs] == [0, 1]


def test_the_same_configuration_is_not_trained_twice_and_a_small_space_ends(study: Study) -> None:
    ledger = study.ledger(ToySpace(choices=[0.1, 0.2, 0.3]))
    seen = []
    while (assignment := ledger.ask()) is not None:
        seen.append(assignment.config.optimizer.lr)
        run(ledger, assignment.number, assignment.config)
    ledger.close()
    assert sorted(seen) == [0.1, 0.2, 0.3]
    assert ledger.exhausted
    assert ledger.finished
    before = len(trials(study))
    resumed = Study.open(study.folder.parent, study.name)
    assert resumed.ledger(ToySpace(choices=[0.1, 0.2, 0.3])).ask() is None
    assert len(trials(study)) == before
    assert resumed.status()["state"] == "finished"
    assert len(resumed.records()) == 3


def test_repeats_may_be_asked_for(tmp_path: Path) -> None:
    mine = spec(trials=4)
    mine = mine.model_copy(update={"budget": mine.budget.model_copy(update={"repeats": 2})})
    study = Study.create(tmp_path, mine)
    run_all(study.ledger(ToySpace(choices=[0.1, 0.2])))
    lrs = [study.config(record.number).optimizer.lr for record in study.records()]
    assert sorted(lrs) == [0.1, 0.1, 0.2, 0.2]


def test_seeds_are_the_trials_own_and_do_not_make_a_configuration_new(study: Study) -> None:
    ledger = study.ledger(ToySpace())
    first, second = ledger.ask(), ledger.ask()
    assert first is not None
    assert second is not None
    assert first.config.seed != second.config.seed
    assert first.config.model_copy(update={"seed": 1}).fingerprint() == first.config.fingerprint()


def test_a_space_that_raises_says_so_and_leaves_no_trial_running(study: Study) -> None:
    class Broken(ToySpace):
        def suggest(self, trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
            raise KeyError("lr")

    with pytest.raises(TailtuneError, match="the space failed: KeyError"):
        study.ledger(Broken()).ask()
    assert trials(study)[0].state.name == "FAIL"


def test_late_results_of_an_ended_trial_change_nothing(study: Study) -> None:
    ledger = study.ledger(ToySpace())
    assignment = ledger.ask()
    assert assignment is not None
    run(ledger, assignment.number, assignment.config)
    before = trials(study)[0]
    assert ledger.result(assignment.number, EpochResult(4, 0.1))
    assert trials(study)[0] == before


def test_a_deferred_trial_has_a_grace_of_its_own_that_survives_a_resume(tmp_path: Path) -> None:
    study = make(tmp_path, 8, 8, factor=2)

    class Deferring(ToySpace):
        def suggest(self, trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
            config = super().suggest(trial, base)
            weights = config.class_weights.model_copy(update={"defer": 0.5 if trial.number == 5 else 0.0})
            return config.model_copy(update={"class_weights": weights})

    ledger = study.ledger(Deferring())
    for _ in range(5):
        assignment = ledger.ask()
        assert assignment is not None
        ledger.result(assignment.number, EpochResult(1, 0.5))
    ledger.ask()
    assert not ledger.result(5, EpochResult(1, 0.0))
    resumed = Study.open(tmp_path, "toy").ledger(Deferring())
    while (again := resumed.ask()) is not None and again.number != 5:
        pass
    assert not resumed.result(5, EpochResult(2, 0.0, history=[(1, 0.0), (2, 0.0)]))


def test_the_observer_hears_each_thing_once(study: Study) -> None:
    heard: list[str] = []

    class Listening(Observer):
        def trial_started(self, number: int, config: TrialConfig, *, resumed: bool) -> None:
            heard.append(f"start {number} {resumed}")

        def epoch_ended(self, number: int, epoch: int, value: float) -> None:
            heard.append(f"epoch {number} {epoch}")

        def trial_ended(self, number: int, state: TrialState, value: float | None, reason: str | None) -> None:
            heard.append(f"end {number} {state.name}")

    ledger = study.ledger(ToySpace(), Listening())
    assignment = ledger.ask()
    assert assignment is not None
    run(ledger, 0, assignment.config, upto=2)
    resumed = Study.open(study.folder.parent, study.name).ledger(ToySpace(), Listening())
    again = resumed.ask()
    assert again is not None
    resumed.result(0, EpochResult(2, 0.1, history=[(1, 0.1), (2, 0.1)]))
    run(resumed, 0, again.config, start=3)
    assert heard == [
        "start 0 False", "epoch 0 1", "epoch 0 2", "start 0 True", "epoch 0 3", "epoch 0 4", "end 0 COMPLETE",
    ]  # fmt: skip


def test_killed_at_any_write_of_one_search(tmp_path: Path) -> None:
    """Each write to the storage is once the last that a driver makes; the next driver goes on from it."""
    killed = KilledAfterWrites(tmp_path)
    writes = 0
    while not killed.run(writes):
        writes += 1
    assert writes > 12


class KilledAfterWrites:
    """Runs a search over and over on one study, each driver dying before its `n`-th write."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def run(self, writes: int) -> bool:
        """Die before write number `writes`, resume without dying, check; return whether nothing died."""
        study = make(self._home / str(writes), 3, 2)
        enqueue(study.optuna(), [("v1", {"optimizer.lr": 0.5})])
        ledger = study.ledger(ToySpace())
        died = self._until_death(ledger, writes)
        if died:
            resumed = Study.open(self._home / str(writes), "toy")
            _train_from_checkpoints(resumed.ledger(ToySpace()))
        done = [trial for trial in study.optuna().trials if "replaced" not in trial.user_attrs]
        assert len(done) == 3
        for trial in done:
            assert trial.state in (OptunaState.COMPLETE, OptunaState.PRUNED)
            assert sorted(trial.intermediate_values) == list(range(1, len(trial.intermediate_values) + 1))
        assert len({trial.user_attrs["fingerprint"] for trial in done}) == 3
        assert all(trial.state.is_finished() for trial in study.optuna().trials)
        return not died

    @staticmethod
    def _until_death(ledger: Ledger, writes: int) -> bool:
        class Death(BaseException):
            pass

        left = writes
        storage = ledger._books.storage

        def deadly(write: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **named: object) -> object:
                nonlocal left
                if left == 0:
                    raise Death
                left -= 1
                return write(*arguments, **named)

            return call

        names = [name for name in dir(storage) if name.startswith(("set_", "create_new_trial"))]
        try:
            for name in names:
                setattr(storage, name, deadly(getattr(storage, name)))
            _train_from_checkpoints(ledger)
        except Death:
            return True
        finally:
            for name in names:
                delattr(storage, name)
        return False


def _train_from_checkpoints(ledger: Ledger) -> None:
    """Train as the toy trainable does: a checkpoint with the history before each report."""
    while (assignment := ledger.ask("ray")) is not None:
        checkpoint = assignment.record / "checkpoint.pt"
        history = json.loads(checkpoint.read_text()) if checkpoint.exists() else []
        fresh, ended = True, False
        while not ended:
            if not (fresh and history):
                history.append([len(history) + 1, curve(assignment.config, len(history) + 1)])
                checkpoint.write_text(json.dumps(history))
            epoch, value = history[-1]
            final = epoch == assignment.config.epochs
            ended = ledger.result(
                assignment.number,
                EpochResult(
                    epoch,
                    value,
                    history=[(e, v) for e, v in history] if fresh else [],
                    done=final,
                    final=final,
                    final_value=value if final else None,
                ),
            )
            fresh = False
    ledger.close()


def test_a_trial_whose_configuration_is_refused_now_is_written_before_it_is_told(study: Study) -> None:
    ledger = study.ledger(ToySpace())
    assert ledger.ask() is not None
    ledger.release()
    storage = ledger._books.storage
    trial = study.optuna().trials[0]
    storage.set_trial_user_attr(trial._trial_id, "config", trial.user_attrs["config"] | {"epochs": -1})
    ended = []

    class Sees(Observer):
        def trial_ended(self, number: int, state: TrialState, value: float | None, reason: str | None) -> None:
            ended.append((number, state, value))

    run_all(study.ledger(ToySpace(), Sees()))
    assert ended[0] == (0, TrialState.FAIL, None)
    info = RecordFolder(study.folder / "trials" / "0").trial
    assert info is not None
    assert info.state is TrialState.FAIL
    assert "refused now" in (info.reason or "")
    assert info.reason == trials(study)[0].user_attrs["reason"]


def test_a_replaced_trial_with_a_record_says_so_there(study: Study) -> None:
    ledger = study.ledger(ToySpace())
    assert ledger.ask() is not None
    ledger._books.replace(0, "another stands in for it")
    info = RecordFolder(study.folder / "trials" / "0").trial
    assert info is not None
    assert (info.replaced, info.state, info.reason) == (True, TrialState.FAIL, "another stands in for it")


def test_what_a_starting_point_leaves_open_is_the_same_for_every_seed(tmp_path: Path) -> None:
    class Drawn(ToySpace):
        def suggest(self, trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
            config = super().suggest(trial, base)
            decay = trial.suggest_float("optimizer.weight_decay", 1e-6, 1e-1, log=True)
            optimizer = config.optimizer.model_copy(update={"weight_decay": decay})
            return config.model_copy(update={"optimizer": optimizer})

    drawn = set()
    for seed in (1, 2):
        given = spec(seed=seed)
        made = Study.create(tmp_path / str(seed), given, start_from=[("point", {"optimizer.lr": 0.01})])
        assignment = made.ledger(Drawn()).ask()
        assert assignment is not None
        drawn.add((assignment.config.optimizer.lr, assignment.config.optimizer.weight_decay))
    assert len(drawn) == 1
