"""Learning-rate schedules: a factor for each optimizer step. One file each."""

from trainable.schedules._base import SCHEDULES, LrSchedule, Schedule
from trainable.schedules.curve import lr_curve

SCHEDULES.discover(__name__, list(__path__))

__all__ = ["SCHEDULES", "LrSchedule", "Schedule", "lr_curve"]
