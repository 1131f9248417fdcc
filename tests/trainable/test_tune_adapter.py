"""A worker that trains one trial after the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WORKER = """
import gc, sys, weakref
import torch
from pathlib import Path
from trainable.config import DataConfig, TrialConfig
from trainable.data.load import load_dataset
from trainable.data.split import make_split
from trainable import loop
from trainable.tune_adapter import ImageTrainable, SharedData

home, states = Path(sys.argv[1]), []
class Watched(loop.TrialState):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        states.append(weakref.ref(self.model))
loop.TrialState = Watched

data = DataConfig(flips="none")
dataset = load_dataset("digits-lt", data=data, cache_dir=home / "cache")
config = TrialConfig(epochs=1, backbone="cifarresnet-8", data=data).model_dump_json()
images = home / "images.npy"
__import__("numpy").save(images, dataset.images)
shared = SharedData(images, dataset.with_images(dataset.images[:0]), make_split(dataset, seed=0))
worker = object.__new__(ImageTrainable)
for number in range(3):
    told = {"config": config, "record": str(home / str(number)), "attempt": "a"}
    told |= {"weights_from": 1.0} if number else {}
    worker.setup({**told, "threads": 2}, shared, 1) if number == 0 else worker.reset_config(told)
    assert torch.get_num_threads() == (2 if number == 0 else 1)
    assert worker.step()["final"]
    assert (home / str(number) / "best.safetensors").exists() == (number == 0)
    worker.cleanup()
    walked = []
    gc.callbacks.append(lambda phase, info: walked.append(len(gc.get_objects())) if phase == "start" else None)
    gc.collect()
    gc.callbacks.clear()
    print([state() is None for state in states], walked[0] < 100_000 < gc.get_freeze_count())
"""


def test_a_former_trial_is_freed_and_what_stays_is_not_walked_again(tmp_path: Path) -> None:
    words = [sys.executable, "-W", "ignore", "-c", WORKER, str(tmp_path)]
    said = subprocess.run(words, capture_output=True, text=True)
    assert said.stdout.splitlines() == [f"{[True] * trials} True" for trials in (1, 2, 3)], said.stderr
