"""Which inputs the trainings of a game have."""

from __future__ import annotations

from harness.compare.traits.game import FamilyGame, Game
from harness.compare.traits.masked import MaskedTrainings
from harness.compare.traits.permuted import FamilyTrainings
from harness.compare.traits.regions import RegionGame
from harness.compare.traits.work import Trainings
from harness.core.records import Split
from harness.data import View


def inputs_of(game: Game, seed: int, view: View, split: Split) -> Trainings:
    """Read the tracks of a split for the trainings of a game.

    The caller has recorded the opening of the test part.
    """
    if isinstance(game, FamilyGame):
        return FamilyTrainings(game, seed, view, split)
    assert isinstance(game, RegionGame)
    return MaskedTrainings(game, seed, view, split)
