"""The bootstrap: coverage by simulation, what a single image is worth, pairing, ties, speed."""

import time

import numpy as np
import pytest
from sklearn.metrics import f1_score

from analysis import metrics
from analysis.intervals import interval_of, percentile_interval, smoothed_replicates, untrusted_classes
from analysis.metrics import SCORES, ClassCounts, macro_f1
from analysis.ties import tied_with_best

LONG_TAIL = np.array([120, 60, 30, 12, 6, 4, 3, 2, 2, 1, 1, 1])


def confusion_of(recall: float, num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Rows that sum to 1: recalls around `recall`, errors spread unevenly."""
    hits = rng.beta(4 * recall, 4 * (1 - recall), num_classes)
    rows = rng.dirichlet(np.full(num_classes, 0.5), num_classes)
    np.fill_diagonal(rows, 1e-9)
    rows *= ((1 - hits) / rows.sum(axis=1))[:, None]
    np.fill_diagonal(rows, hits)
    return rows


def said(rows: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Predictions drawn from the rows of the targets' classes."""
    return (rng.random((len(targets), 1)) > rows[targets].cumsum(axis=1)[:, :-1]).sum(axis=1)


@pytest.mark.parametrize(
    ("counts", "at_least"),
    [(np.full(10, 30), 0.90), (np.full(20, 3), 0.86), (LONG_TAIL, 0.90)],
    ids=["thirty", "three", "long-tail"],
)
def test_coverage_of_a_nominal_95_percent(counts: np.ndarray, at_least: float) -> None:
    """The plain percentile bootstrap covers about 92, 80 and 60 % here; see benchmarks/interval_coverage.py."""
    rng = np.random.default_rng(5)
    targets, covered, runs = np.repeat(np.arange(len(counts)), counts), 0, 150
    for _ in range(runs):
        rows = confusion_of(0.6, len(counts), rng)
        truth = float(macro_f1(ClassCounts.of(rows * counts[:, None])))
        predictions = said(rows, targets, rng)
        found = interval_of(targets, predictions, len(counts), replicates=400, seed=int(rng.integers(2**32)))
        covered += found.low <= truth <= found.high
    assert at_least <= covered / runs


def test_classes_that_are_never_predicted_are_not_credited_with_hits() -> None:
    """121 classes of 396 to 2 images, most of the rarest never predicted: the draws alone held it in 40 %."""
    rng = np.random.default_rng(6)
    counts = np.round(np.geomspace(396, 2, 121)).astype(int)
    targets, covered, above, runs = np.repeat(np.arange(121), counts), 0, 0, 20
    for run in range(runs):
        rows = confusion_of(0.6, 121, rng)
        never = rng.random(121) < np.interp(np.log(counts), [0, np.log(30)], [0.8, 0.0])
        rows[:, never] = 0.0
        rows /= rows.sum(axis=1, keepdims=True)
        truth = float(macro_f1(ClassCounts.of(rows * counts[:, None])))
        found = interval_of(targets, said(rows, targets, rng), 121, replicates=200, seed=run)
        covered += found.low <= truth <= found.high
        above += found.low == found.value
    assert covered / runs >= 0.9
    assert above == 0, "a value at the very end of its interval"


@pytest.mark.parametrize("metric", SCORES)
def test_many_images_agree_with_the_plain_bootstrap(metric: str) -> None:
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(4), [900, 600, 400, 300])
    predictions = said(confusion_of(0.7, 4, rng), targets, rng)
    ours = interval_of(targets, predictions, 4, metric=metric)
    plain, members = [], [np.flatnonzero(targets == label) for label in range(4)]
    for _ in range(600):
        drawn = np.concatenate([rng.choice(images, len(images)) for images in members])
        counts = ClassCounts.of(metrics.confusion_matrix(targets[drawn], predictions[drawn], 4))
        plain.append(float(SCORES[metric](counts)))
    low, high = np.quantile(plain, [0.025, 0.975])
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.12 * (high - low))


def test_the_value_is_scikit_learns_and_lies_within() -> None:
    targets = np.array([0, 0, 0, 1, 1, 2])
    predictions = np.array([0, 0, 1, 1, 3, 2])
    found = interval_of(targets, predictions, 5)
    assert found.value == pytest.approx(f1_score(targets, predictions, labels=[0, 1, 2], average="macro"))
    assert found.low <= found.value <= found.high
    assert found.untrusted_classes == (1, 2)


def test_a_class_with_one_image_is_not_certain() -> None:
    """Always right on 10 classes with one image each: the plain bootstrap would say [1, 1]."""
    labels = np.arange(10)
    right = interval_of(labels, labels, 10)
    assert right.high == 1.0
    assert right.low < 0.97
    wrong = interval_of(labels, (labels + 1) % 10, 10)
    assert wrong.low == 0.0
    assert wrong.high > 0.03


def test_all_right_on_many_images_is_nearly_certain() -> None:
    labels = np.repeat(np.arange(3), 500)
    assert interval_of(labels, labels, 3).low > 0.99


def test_absent_classes_take_no_part() -> None:
    targets, predictions = np.array([0, 1] * 30), np.array([0, 1, 1, 1, 0, 3] * 10)
    few = smoothed_replicates(targets, np.minimum(predictions, 2)[None], 3)
    assert np.isfinite(few).all()
    assert 0.3 < few.mean() < 0.95


def test_equal_trials_have_equal_draws_and_a_trial_alone_the_same() -> None:
    rng = np.random.default_rng(1)
    targets = rng.integers(5, size=90)
    classes = np.stack([rng.integers(5, size=90)] * 2 + [targets])
    draws = smoothed_replicates(targets, classes, 5, replicates=50, seed=3)
    assert (draws[0] == draws[1]).all()
    assert (smoothed_replicates(targets, classes[2:], 5, replicates=50, seed=3)[0] == draws[2]).all()


def test_seeds() -> None:
    targets, predictions = np.arange(40) % 4, np.arange(40) % 3
    assert interval_of(targets, predictions, 4) == interval_of(targets, predictions, 4)
    assert interval_of(targets, predictions, 4) != interval_of(targets, predictions, 4, seed=1)


def test_pairs_see_what_single_intervals_hide() -> None:
    """B is A with 3 % of its errors mended: intervals overlap widely, the paired difference does not."""
    rng = np.random.default_rng(2)
    targets = np.repeat(np.arange(5), 400)
    one = said(confusion_of(0.6, 5, rng), targets, rng)
    other = np.where(rng.random(len(targets)) < 0.08, targets, one)
    draws = smoothed_replicates(targets, np.stack([one, other]), 5)
    intervals = [percentile_interval(d.mean(), d, 0.95) for d in draws]
    assert intervals[0].high > intervals[1].low
    assert np.quantile(draws[1] - draws[0], 0.001) > 0
    values = np.array([interval_of(targets, classes, 5).value for classes in (one, other)])
    assert tied_with_best(values, draws).tolist() == [False, True]


def test_the_set_of_ties_holds_the_truly_best_one() -> None:
    """Twelve equally good nets and a worse one: the luckiest leads, yet any may be best (95 % of the time)."""
    rng = np.random.default_rng(3)
    targets = np.repeat(np.arange(6), [80, 60, 40, 20, 10, 3])
    rows = confusion_of(0.6, 6, rng)
    worse = 0.55 * rows + 0.45 / 6
    kept, bad, runs = 0, 0, 60
    for run in range(runs):
        nets = np.stack([said(rows, targets, rng) for _ in range(12)] + [said(worse, targets, rng)])
        draws = smoothed_replicates(targets, nets, 6, replicates=400, seed=run)
        values = macro_f1(ClassCounts.of([metrics.confusion_matrix(targets, net, 6) for net in nets]))
        tied = tied_with_best(values, draws)
        kept += tied[0]
        bad += tied[12]
    assert kept / runs >= 0.88
    assert bad / runs <= 0.3


def test_identical_trials_are_tied_and_one_alone_is_the_best() -> None:
    targets = np.arange(30) % 3
    draws = smoothed_replicates(targets, np.stack([targets, targets]), 3)
    assert tied_with_best(np.ones(2), draws).tolist() == [True, True]
    assert tied_with_best(np.ones(1), draws[:1]).tolist() == [True]


def test_untrusted_classes() -> None:
    assert untrusted_classes([0, 1, 1, 2, 2, 2, 4], 6) == (0, 1, 4)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        percentile_interval(0.5, np.zeros(10), confidence)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="predictions must be"):
        smoothed_replicates([0, 1], [[0, 1, 1]], 2)


def test_a_pair_of_trials_is_quick() -> None:
    """121 classes, 6,000 images, 2,000 draws: 0.15 s of processor time on one slow core; 0.6 s is the alarm."""
    rng = np.random.default_rng(0)
    targets = np.minimum(rng.geometric(0.03, 6000) - 1, 120)
    classes = np.where(rng.random((2, 6000)) < 0.6, targets, rng.integers(121, size=(2, 6000)))
    start = time.process_time()
    smoothed_replicates(targets, classes, 121)
    assert time.process_time() - start < 0.6
