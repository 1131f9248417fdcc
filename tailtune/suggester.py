"""Where new configurations come from: the space, asked by the search algorithm, and none of them too often."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from analysis.errors import TailtuneError
from tailtune.algorithm import algorithm_for
from tailtune.asha import own_grace
from tailtune.centre import Centre
from tailtune.columns import Columns
from tailtune.draft import Draft
from tailtune.exchange import Space
from tailtune.seeds import derived_seed
from tailtune.trial_books import LONGEST_REASON, TrialBooks
from trainable.config import TrialConfig


@dataclass(frozen=True)
class Suggestion:
    """A configuration that the study has a trial for.

    Attributes:
        config: To be trained.
        frozen: The trial, with its configuration and what belongs to it as attributes.
    """

    config: TrialConfig
    frozen: FrozenTrial


class Suggester:
    """Draws configurations; a duplicate, or one that breaks a rule, is put into the study as replaced.

    Args:
        study: The study; its storage has no other writer while this lives.
        books: Of the same study.
        space: Suggests configurations.
        base: The run's part of every configuration.
        grace_epochs: Before ASHA judges a trial; a configuration may need more.
        seed: The study's.
        repeats: How often one configuration may be evaluated.
    """

    def __init__(
        self,
        study: optuna.Study,
        books: TrialBooks,
        *,
        space: Space,
        base: TrialConfig,
        grace_epochs: int,
        seed: int,
        repeats: int,
    ) -> None:
        self._study, self._books, self._space, self._base = study, books, space, base
        self._grace_epochs, self._seed, self._repeats = grace_epochs, seed, repeats
        self._seen: Counter[str] = Counter()
        self._columns = Columns()

    @property
    def has_suggested(self) -> bool:
        """Whether there has been any configuration that could be trained."""
        return bool(self._seen)

    def count(self, fingerprint: str) -> None:
        """Take note of a configuration that an earlier driver has handed out."""
        self._seen[fingerprint] += 1

    def new(self, ray_id: str | None, refused: int) -> Suggestion | str:
        """Ask the search algorithm for a new trial, after so many refused suggestions in a row.

        Returns:
            The suggestion, or why it was refused.

        Raises:
            TailtuneError: If the space fails.
        """
        trials = self._study.get_trials(deepcopy=False)
        seed = derived_seed(self._seed, "suggest", len(trials))
        self._study.sampler = algorithm_for(trials, seed, refused=refused, columns=self._columns)
        draft = Draft(self._study, self._books.storage, trials)
        return self._resolve(draft.trial, ray_id, draft)

    def completed(self, number: int) -> Suggestion | str:
        """Give starting point `number` the middle of what it leaves open; returns and raises as `new`."""
        self._study.sampler = Centre()
        return self._resolve(optuna.Trial(self._study, self._books.trial_id(number)), None)

    def _resolve(self, trial: optuna.Trial, ray_id: str | None, draft: Draft | None = None) -> Suggestion | str:
        """Draw the configuration of a trial: a draft, or one that is in the study."""
        refuse = self._books.replace if draft is None else draft.refuse
        try:
            config = self._space.suggest(trial, self._base)
        except TailtuneError as error:
            return refuse(trial.number, f"refused: {error}")
        except Exception as error:
            why = refuse(trial.number, f"the space failed: {type(error).__name__}: {error}")
            raise TailtuneError(why[:LONGEST_REASON]) from error
        config = config.model_copy(update={"seed": derived_seed(self._seed, "trial", trial.number)})
        fingerprint = config.fingerprint()
        if self._seen[fingerprint] >= self._repeats:
            return refuse(trial.number, f"a configuration already evaluated: {fingerprint}")
        self.count(fingerprint)
        grace_epochs = own_grace(self._grace_epochs, config.class_weights.defer, config.epochs)
        if grace_epochs != self._grace_epochs:
            trial.set_user_attr("grace_epochs", grace_epochs)
        if ray_id is not None:
            trial.set_user_attr("ray_id", ray_id)
        trial.set_user_attr("fingerprint", fingerprint)
        trial.set_user_attr("record", str(self._books.record(trial.number).path))
        trial.set_user_attr("config", config.model_dump(mode="json"))  # last: who has it has all of them
        frozen = self._books.frozen(trial.number) if draft is None else draft.keep()
        return Suggestion(config, frozen)


__all__ = ["Suggester", "Suggestion"]
