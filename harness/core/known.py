"""Known trials: settings whose accuracy another study or a table has, told to a search that did not run them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.core.json_types import JsonObject
from harness.core.recorded import checked
from harness.core.space import Params, Space


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTrial:
    """A setting and its validation accuracy in [0, 1]; `params` has the searched hyperparameters alone."""

    params: Params
    val_accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTrials:
    """The known trials of a study, at least one, and where they come from."""

    sources: tuple[str, ...]
    trials: tuple[KnownTrial, ...]

    @property
    def best(self) -> KnownTrial:
        """The trial with the highest accuracy; the first of several."""
        return max(self.trials, key=lambda trial: trial.val_accuracy)

    def __str__(self) -> str:
        """Return the phrase that messages and the record have."""
        return f"{len(self.trials)} known trials of {', '.join(self.sources)}"

    def as_json(self) -> JsonObject:
        """Return the JSON form of the trials."""
        return asdict(self)

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> KnownTrials:
        """Return the trials of a JSON form that `as_json` made; raises one of UNREADABLE for any other."""
        trials = tuple(checked(KnownTrial(**trial)) for trial in recorded["trials"])
        if not trials:
            raise ValueError("no known trial")
        return checked(cls(sources=tuple(recorded["sources"]), trials=trials))


def check_known(known: KnownTrials, space: Space) -> None:
    """Raise ValueError if a trial is none of this space, or has an accuracy outside [0, 1]."""
    for trial in known.trials:
        inside = all(name in space and space[name].contains(value) for name, value in trial.params.items())
        if not inside or not 0 <= trial.val_accuracy <= 1:
            raise ValueError(f"{trial} is no trial of the search space")
