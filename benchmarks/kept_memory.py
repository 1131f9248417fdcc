"""What keeping freed memory in a worker (`trainable.host_memory`) is worth: epochs with it over epochs without.

    python -m benchmarks.kept_memory [--rounds 5]

Each run is a process of its own, with and without in turn; images a second of processor time, the system's
included, which other work on the machine changes less than wall time.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import torch

from benchmarks.epoch_efficiency import random_images, trial_config
from benchmarks.table import Row, run, shown
from trainable.host_memory import keep_freed_memory
from trainable.state import TrialState

CASES = (("resnet10t", 32, 32), ("resnet10t", 60, 80), ("mobilenetv3_small_050", 60, 80))
IMAGES = 256


def measure(network: str, height: int, width: int) -> dict[str, float]:
    """Train two epochs; return images a second of processor time in the second, and its page faults."""
    dataset, split = random_images(IMAGES, (height, width))
    trial = TrialState(trial_config(network, 2), dataset, split, torch.device("cpu"))
    start, faults = 0.0, 0
    for number in range(2):
        start, faults = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for step, batch in enumerate(trial.batches.train(trial.begin_epoch(number), number)):
            trial.set_lr(number, step)
            trial.stepper(batch.mixed)
            trial.averager.after_step()
    return {
        "rate": IMAGES / (time.process_time() - start),
        "faults": resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults,
    }


def in_a_process(case: tuple[str, int, int], *, keep: bool) -> dict[str, float]:
    """Return what `measure` finds in a new process."""
    words = [str(word) for word in (*case, int(keep))]
    command = [sys.executable, "-m", "benchmarks.kept_memory", "--one", *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def rows(rounds: int) -> Iterator[Row]:
    """Yield a row a network and size."""
    for case in CASES:
        pairs = [(in_a_process(case, keep=True), in_a_process(case, keep=False)) for _ in range(rounds)]
        ratios = [with_it["rate"] / without["rate"] for with_it, without in pairs]
        with_it, without = (int(statistics.median(pair[side]["faults"] for pair in pairs)) for side in (0, 1))
        what = f"kept memory: {case[0]}, {case[1]}x{case[2]}; page faults {without:,} to {with_it:,} an epoch"
        yield Row("", what, "above 1", shown(ratios), statistics.median(ratios) > 1.0)


if __name__ == "__main__":
    if "--one" in sys.argv:
        name, height, width, keeps = sys.argv[sys.argv.index("--one") + 1 :]
        if int(keeps):
            keep_freed_memory()
        print(json.dumps(measure(name, int(height), int(width))))
    else:
        run(rows, __doc__)
