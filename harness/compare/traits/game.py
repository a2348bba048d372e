"""The game whose players are families: which subsets are trained, and each family's fair share of the result.

A training is named by a key, which is also its name on record. For families of columns:

- `set/MASK`, `set/MASK/SEED`: the families of the bits of MASK as they are, the others as copies permuted over the
  tracks. The whole set and the sets that lack one family are trained with several seeds;
- `alone/INDEX`: the columns of one family, all others dropped;
- `apart/COLUMN`: one column that is in no family;
- `control/NAME/MASK/here`, `control/NAME/MASK/gone`: a family of the control beside the blocks of MASK;
- `uses/INDEX`, `given/INDEX`: no training: the whole network, with a family of the test tracks permuted, or
  permuted given the other columns.

For regions of pictures see `regions.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import factorial
from typing import Protocol

import numpy as np

from harness.compare.traits.families import Families
from harness.core.json_types import JsonObject
from harness.core.search_stats import Floats

SEEDS = 3  # trainings of the whole set and of the sets that lack one family: two trainings alone are noise
CONTROLS = ("noise", "shuffled")
NOISE_COLUMNS = 20
CONTROL_BLOCKS = 3  # the families in so many blocks for the controls: their null holds in a coarse game as well


class Game(Protocol):
    """What is taken away from the input and given back: families of columns, or regions of pictures."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the players, in the order of their rows."""

    @property
    def kinds(self) -> str:
        """What the players are, with their number: `8 families`."""

    @property
    def players(self) -> str:
        """What the players are, in the plural."""

    @property
    def first(self) -> str:
        """The key of the training with the whole input, which comes first."""

    def trainings(self) -> Iterator[str]:
        """Yield the keys of all trainings of a repeat."""

    def seed_number(self, key: str) -> int:
        """Return which of the seeds a training has: 0 for the repeat's own."""

    def identity(self) -> list[object]:
        """Return what tells this game from others, for the identity of the record."""

    def as_json(self) -> JsonObject:
        """Return the players in the form that `--json` prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyGame:
    """The families of a study's columns, and all trainings of one repeat."""

    families: Families

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the families."""
        return tuple(family.name for family in self.families.families)

    @property
    def kinds(self) -> str:
        """What the players are, with their number."""
        return f"{self.size} {self.players}"

    @property
    def players(self) -> str:
        """What the players are, in the plural."""
        return "families"

    @property
    def first(self) -> str:
        """The key of the training with all families."""
        return set_key(self.whole)

    def seed_number(self, key: str) -> int:
        """Return which of the seeds a training has."""
        return int(key.split("/")[2]) if key.startswith("set/") and key.count("/") == 2 else 0

    def identity(self) -> list[object]:
        """Return the families with their columns, and the columns that are in none."""
        return [
            [[family.name, list(family.columns)] for family in self.families.families],
            list(self.families.apart),
        ]

    def as_json(self) -> JsonObject:
        """Return the families, the merged ones, and the columns that are in none."""
        families = self.families
        return {
            "families": {family.name: list(family.columns) for family in families.families},
            "merged": {name: list(parts) for name, parts in families.merged.items()},
            "apart": list(families.apart),
        }

    @property
    def size(self) -> int:
        """The number of families."""
        return len(self.families.families)

    @property
    def whole(self) -> int:
        """The mask of all families."""
        return (1 << self.size) - 1

    @property
    def blocks(self) -> tuple[int, ...]:
        """The masks of the blocks that the controls are played with."""
        parts = np.array_split(np.arange(self.size), min(CONTROL_BLOCKS, self.size))
        return tuple(sum(1 << int(index) for index in part) for part in parts)

    def seeds_of(self, mask: int) -> int:
        """Return with how many seeds a set of families is trained."""
        return SEEDS if mask.bit_count() >= self.size - 1 else 1

    def trainings(self) -> Iterator[str]:
        """Yield the keys of all trainings of a repeat, the whole set first."""
        for mask in range(self.whole, -1, -1):
            for seed in range(self.seeds_of(mask)):
                yield set_key(mask, seed)
        yield from (f"alone/{index}" for index in range(self.size))
        yield from (f"apart/{column}" for column in self.families.apart)
        for name in CONTROLS:
            for mask in self.control_masks():
                yield from (f"control/{name}/{mask}/{arm}" for arm in ("here", "gone"))

    def control_masks(self) -> list[int]:
        """Return the masks of families that stand for the subsets of the blocks, by the subset's own mask."""
        blocks = self.blocks
        return [spread(subset, blocks) for subset in range(1 << len(blocks))]


def set_key(mask: int, seed: int = 0) -> str:
    """Return the key of a set of families; `seed` numbers its trainings."""
    return f"set/{mask}" if seed == 0 else f"set/{mask}/{seed}"


def spread(subset: int, groups: Sequence[int]) -> int:
    """Return the mask of all families in the groups that a subset of the groups has."""
    return sum(group for place, group in enumerate(groups) if subset >> place & 1)


def shares(value: Callable[[int], Floats], groups: Sequence[int]) -> Floats:
    """Return the Shapley share of each group in the value of all of them: float [groups, tracks].

    `value` gives the value of a mask of families for each track, `groups` are the masks of the players. The shares
    of a track sum to the value of all groups less that of none: exactly, but for rounding.
    Source: Shapley (1953), A value for n-person games; Williamson and Feng (2020), Efficient nonparametric
    statistical inference on population feature importance using Shapley values, for retrained subsets.
    """
    count = len(groups)
    values = [value(spread(subset, groups)) for subset in range(1 << count)]
    found = np.zeros((count, len(values[0])))
    for subset, without in enumerate(values):
        size = subset.bit_count()
        if size == count:
            continue
        weight = factorial(size) * factorial(count - size - 1) / factorial(count)
        for place in range(count):
            if not subset >> place & 1:
                found[place] += weight * (values[subset | 1 << place] - without)
    return found


def control_share(correct: Mapping[str, Floats], game: FamilyGame, name: str) -> Floats:
    """Return the Shapley share of a control in the game with the blocks: float [tracks].

    It is the last player: its share is the weighted mean of what it adds to each subset of the blocks.
    """
    count = len(game.blocks) + 1
    found: Floats = np.zeros(1)
    for subset, mask in enumerate(game.control_masks()):
        size = subset.bit_count()
        weight = factorial(size) * factorial(count - size - 1) / factorial(count)
        here, gone = (correct[f"control/{name}/{mask}/{arm}"] for arm in ("here", "gone"))
        found = found + weight * (here - gone)
    return found


def mean_over_seeds(correct: Mapping[str, Floats], game: FamilyGame) -> Callable[[int], Floats]:
    """Return the function that gives the value of a mask for each track: its correctness, mean over its seeds."""

    def value(mask: int) -> Floats:
        trained = [correct[set_key(mask, seed)] for seed in range(game.seeds_of(mask))]
        found: Floats = np.mean(trained, axis=0)
        return found

    return value
