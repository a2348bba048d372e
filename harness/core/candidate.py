"""What a comparison trains anew in each repeat."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from harness.core.json_types import JsonObject
from harness.core.records import Representation, TrialConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One model of a comparison, trained anew in each repeat: a study's best configuration, or what it is held
    against.

    `config` is that of the best trial, or of the default setting (each repeat replaces its seed), None for a
    baseline. In a nested comparison `search` is the digest of the search that each repeat has of its own,
    `config` has no searched hyperparameters, and `chosen` is what each repeat's search chose, () before the
    searches. `seed` is the study's; candidates with the same seed get the same seed in the same repeat.
    `source_digest` is the SHA-256 of the model's file, None for a model of the package. `untuned` is True for
    the default setting of a study's model. `members` is the number of networks: more than one are an ensemble,
    the mean of their probabilities.
    """

    name: str
    study: str | None
    model: str
    representation: Representation
    columns: tuple[str, ...]
    seed: int
    config: TrialConfig | None
    source_digest: str | None = None
    untuned: bool = False
    members: int = 1
    search: str | None = None
    chosen: tuple[TrialConfig, ...] = ()

    def config_in(self, repeat: int) -> TrialConfig | None:
        """Return the configuration of a repeat but for its seed, None for a baseline."""
        return self.chosen[repeat] if self.chosen else self.config

    @property
    def is_contender(self) -> bool:
        """Whether the verdict speaks of it: a study's chosen setting, alone or as an ensemble."""
        return self.study is not None and not self.untuned

    @property
    def is_single(self) -> bool:
        """Whether it is the single network of a study's chosen setting."""
        return self.is_contender and self.members == 1

    def first_member(self) -> Candidate:
        """Return the single network that is the first member of this ensemble; its name is the ensemble's."""
        return replace(self, members=1)

    def identity(self) -> JsonObject:
        """Return the settings that determine the repeats, in their JSON form.

        Left out are the display name, the number of threads (which depends on the machine), the stack (which no
        repeat has), and what a search chooses, because it follows from the rest. A candidate without a search
        has no word of one: a new entry would give all comparisons on record another identity, and orphan their
        repeats.
        """
        found = asdict(self)
        del found["name"], found["chosen"]
        if self.search is None:
            del found["search"]
        if found["config"] is not None:
            del found["config"]["threads"], found["config"]["stack"]
        return found
