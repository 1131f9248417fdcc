"""A real trainable without torch: a curve that its configuration decides, in milliseconds an epoch."""

from __future__ import annotations

import errno
import json
import math
import os
import time
from typing import Any

from ray import tune

from analysis.atomic import write_error
from analysis.records import RecordFolder
from trainable.config import TrialConfig
from trainable.parent_death import die_with_parent


def curve(config: TrialConfig, epoch: int) -> float:
    """Rises to a height that is best at a learning rate of 0.03."""
    height = 0.9 - 0.2 * abs(math.log10(config.optimizer.lr / 0.03))
    return round(height * (1.0 - math.exp(-epoch / 3.0)), 6)


class ToyTrainable(tune.Trainable):
    """Does what its configuration's name says: `sleep=0.1 raise@2 full@2 exit@3 nan@4 diverge@2 refuse`."""

    def setup(self, config: dict[str, Any]) -> None:
        die_with_parent()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self.trial_config = TrialConfig.model_validate_json(config["config"])
        self.folder, self.attempt = RecordFolder(config["record"]), config["attempt"]
        self.fresh, self.history = True, []
        (self.folder.path / "pid").write_text(str(os.getpid()))
        checkpoint = self.folder.path / "checkpoint.pt"
        if checkpoint.exists():
            self.history = json.loads(checkpoint.read_text())
        words = self.trial_config.name.replace("@", "=").split()
        self._words = dict(word.split("=", 1) for word in words if "=" in word)
        if "refuse" in self.trial_config.name:
            raise ValueError("it cannot be set up")

    def _now(self, word: str) -> bool:
        return self._words.get(word) == str(len(self.history) + 1)

    def step(self) -> dict[str, Any]:
        epochs = self.trial_config.epochs
        if not (self.fresh and self.history):
            time.sleep(float(self._words.get("sleep", 0.0)))
            if self._now("raise"):
                raise RuntimeError("the toy broke\nwith details")
            if self._now("full"):
                raise write_error(
                    self.folder.path / "checkpoint.pt", OSError(errno.ENOSPC, "No space left on device")
                )
            if self._now("exit"):
                os._exit(3)
            epoch = len(self.history) + 1
            if self._now("diverge"):
                return {"epoch": epoch, "macro_f1": 0.0, "done": True, "final": True, "diverged": "loss is nan"}
            if self._now("nan"):
                return {"epoch": epoch, "macro_f1": math.nan, "done": False}
            value = curve(self.trial_config, epoch)
            self.history.append([epoch, value])
            content = json.dumps(self.history).encode()
            self.folder.write_bytes("checkpoint.pt", content, self.attempt)
            self.folder.write_bytes("best.safetensors", content, self.attempt)
        final = len(self.history) >= epochs
        result = {
            "epoch": self.history[-1][0],
            "macro_f1": self.history[-1][1],
            "history": list(self.history) if self.fresh else [],
            "done": final,
            "final": final,
            "final_value": max(value for _, value in self.history) if final else None,
            "diverged": None,
            "cost": {"wall_seconds": 0.1 * len(self.history)},
        }
        self.fresh = False
        return result
