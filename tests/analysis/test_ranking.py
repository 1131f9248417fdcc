"""Rankings of real records on disk: order, states, ties, the contract of `rank --json`."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from analysis.errors import UsageError
from analysis.ranking import Ranking, rank
from analysis.records import Cost, Predictions, RecordFolder, Summary, TrialInfo, TrialState, read_study

KEYS = {
    "rank", "number", "state", "macro_f1", "interval", "tail_f1", "epochs", "wall_seconds", "record",
    "tied_with_best",
}  # fmt: skip
TRAIN = (300, 120, 60, 25, 10)
TARGETS = np.repeat(np.arange(5), [120, 60, 40, 20, 3])


def logits_of(skill: float, seed: int, targets: np.ndarray = TARGETS) -> np.ndarray:
    """Logits of a net that is right about a share `skill` of the images."""
    rng = np.random.default_rng(seed)
    said = np.where(rng.random(len(targets)) < skill, targets, rng.integers(5, size=len(targets)))
    return (4 * np.eye(5)[said] + rng.random((len(targets), 5))).astype(np.float16)


def put(home: Path, number: int, state: TrialState, logits: np.ndarray | None = None, **more: object) -> None:
    """Write a trial as driver and trainable would."""
    folder = RecordFolder(home / "trials" / str(number))
    summary = Summary(
        epoch=4, best_epoch=3, cost=Cost(wall_seconds=10.0 + number, parameters=99), train_class_counts=TRAIN
    )
    info = TrialInfo(number=number, state=state)
    for key, value in more.items():
        owner = "summary" if key == "diverged" else "info"
        if owner == "summary":
            summary = replace(summary, **{key: value})
        else:
            info = replace(info, **{key: value})
    folder.write_trial(info)
    folder.write_summary(summary)
    if logits is not None:
        folder.write_predictions(Predictions(logits, TARGETS, np.arange(len(TARGETS)), 3))


@pytest.fixture(scope="module")
def ranking(tmp_path_factory: pytest.TempPathFactory) -> Ranking:
    home = tmp_path_factory.mktemp("study")
    put(home, 0, TrialState.COMPLETE, logits_of(0.5, 0))
    put(home, 1, TrialState.PRUNED, logits_of(0.9, 1))
    put(home, 2, TrialState.COMPLETE, logits_of(0.91, 2))
    put(home, 3, TrialState.FAIL, logits_of(0.99, 3), reason="RuntimeError: out of memory")
    put(home, 4, TrialState.PRUNED, logits_of(0.99, 4), diverged="loss is nan in epoch 4")
    put(home, 5, TrialState.RUNNING, logits_of(0.99, 5))
    put(home, 6, TrialState.WAITING)
    put(home, 7, TrialState.COMPLETE)
    put(home, 8, TrialState.FAIL, replaced=True)
    put(home, 9, TrialState.COMPLETE, logits_of(0.5, 0))
    RecordFolder(home / "trials" / "9").write_bytes("predictions.npz", b"half of it")
    put(home, 10, TrialState.COMPLETE, logits_of(1.0, 0))
    (home / "trials" / "10" / "summary.json").write_text("{")
    return rank(read_study(home), study="digits")


def by_number(ranking: Ranking) -> dict[int, dict[str, object]]:
    return {trial["number"]: trial for trial in ranking.to_json()["trials"]}


def test_order_states_and_reasons(ranking: Ranking) -> None:
    trials = ranking.to_json()["trials"]
    numbers = [trial["number"] for trial in trials]
    assert set(numbers[:2]) == {1, 2}
    assert numbers[2:] == [0, 5, 6, 4, 7, 9, 3, 10]
    assert [trial["rank"] for trial in trials] == list(range(1, 11))
    found = by_number(ranking)
    for number, reason in {
        3: "RuntimeError: out of memory",
        4: "loss is nan in epoch 4",
        7: "no predictions stored",
        9: "predictions.npz is damaged",
        10: "summary.json is damaged",
    }.items():
        assert found[number]["macro_f1"] is found[number]["interval"] is None
        assert reason in str(found[number]["reason"])
        assert found[number]["tied_with_best"] is False


def test_the_score_is_scikit_learns_macro_f1_of_the_stored_logits(ranking: Ranking) -> None:
    found = by_number(ranking)
    for number in (0, 1, 2):
        with np.load(Path(str(found[number]["record"])) / "predictions.npz") as stored:
            expected = f1_score(stored["targets"], stored["logits"].argmax(1), average="macro")
            micro = f1_score(stored["targets"], stored["logits"].argmax(1), average="micro")
        assert found[number]["macro_f1"] == pytest.approx(expected)
        assert found[number]["macro_f1"] != pytest.approx(micro)
        low, high = found[number]["interval"]
        assert low < expected < high


def test_ties_with_the_best(ranking: Ranking) -> None:
    """0.90 and 0.91 cannot be told apart on 243 images, 0.50 can; what still runs takes no part."""
    found = by_number(ranking)
    assert [found[number]["tied_with_best"] for number in (0, 1, 2, 5)] == [False, True, True, False]
    assert ranking.best is not None
    assert ranking.best.rank == 1


def test_json_contract(ranking: Ranking) -> None:
    document = json.loads(json.dumps(ranking.to_json(), allow_nan=False))
    assert set(document) == {"study", "metric", "trials"}
    assert (document["study"], document["metric"]) == ("digits", "macro_f1")
    for trial in document["trials"]:
        assert set(trial) - {"reason"} == KEYS
        assert ("reason" in trial) or trial["state"] in {"RUNNING", "WAITING"} or trial["macro_f1"] is not None
    best = document["trials"][0]
    assert (best["epochs"], best["wall_seconds"]) == (4, 10.0 + best["number"])
    assert 0 <= best["tail_f1"] <= 1


def test_csv_has_the_cost_columns(ranking: Ranking) -> None:
    rows = list(csv.DictReader(io.StringIO(ranking.to_csv())))
    assert len(rows) == len(ranking.rows)
    assert rows[0]["parameters"] == "99"
    assert float(rows[0]["interval_low"]) < float(rows[0]["macro_f1"]) < float(rows[0]["interval_high"])
    assert rows[-1]["macro_f1"] == ""


def test_equal_seeds_give_equal_rankings_and_strangers_change_no_interval(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path, number, TrialState.COMPLETE, logits_of(0.7, number))
    records = read_study(tmp_path)
    assert rank(records).to_json() == rank(records).to_json()
    alone = rank(records[:1]).rows[0].interval
    assert next(row for row in rank(records).rows if row.number == 0).interval == alone
    assert rank(records, seed=1).rows[0].interval != rank(records).rows[0].interval


def test_another_metric_another_order(tmp_path: Path) -> None:
    """One net says the common classes rightly, the other every class half the time."""
    common = 4 * np.eye(5)[np.minimum(TARGETS, 1)]
    put(tmp_path, 0, TrialState.COMPLETE, common.astype(np.float16))
    put(tmp_path, 1, TrialState.COMPLETE, logits_of(0.6, 0))
    records = read_study(tmp_path)
    assert [row.number for row in rank(records).rows] == [1, 0]
    by_accuracy = rank(records, metric="accuracy").to_json()["trials"]
    assert by_accuracy[0]["number"] == 0
    assert by_accuracy[0]["accuracy"] == pytest.approx(180 / 243)


def test_trials_on_other_images_are_compared_without_pairs(tmp_path: Path) -> None:
    other = np.repeat(np.arange(5), 15)
    put(tmp_path, 0, TrialState.COMPLETE, logits_of(0.9, 0))
    for number, skill in ((1, 0.8), (2, 0.1)):
        put(tmp_path, number, TrialState.COMPLETE)
        RecordFolder(tmp_path / "trials" / str(number)).write_predictions(
            Predictions(logits_of(skill, 1, other), other, np.arange(75), 1)
        )
    rows = {row.number: row for row in rank(read_study(tmp_path)).rows}
    assert all(row.interval for row in rows.values())
    assert [rows[number].tied_with_best for number in range(3)] == [True, True, False]


def test_nothing_to_rank(tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    assert rank(read_study(tmp_path)).to_json()["trials"] == []
    assert rank([]).best is None


def test_wrong_use() -> None:
    with pytest.raises(UsageError, match="did you mean 'macro_f1'"):
        rank([], metric="macrof1")
    with pytest.raises(UsageError, match="confidence"):
        rank([], confidence=95)


def test_neither_torch_nor_ray_nor_optuna_nor_pandas_is_needed() -> None:
    heavy = {"torch", "ray", "optuna", "pandas", "sklearn", "scipy"}
    code = f"import analysis.ranking, sys; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
