"""The test part of a repeat: each opening is on disk before the part is read."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from harness.compare.repeats import do_repeats, repeat_path
from harness.compare.training import RepeatTask
from harness.compare.traits.families import families_of
from harness.compare.traits.game import FamilyGame
from harness.core.candidate import Candidate
from harness.core.events import Event, OpenedTestPart, SubsetTrained, has_ended
from harness.core.journal import read_events
from harness.core.records import Split
from harness.data import Part, Tracks, View, stratified_split


class OnceTrained(threading.Event):
    """Set as soon as a journal has a training of the traits."""

    def __init__(self, journal: Path) -> None:
        super().__init__()
        self._journal = journal

    def is_set(self) -> bool:
        return any(isinstance(event, SubsetTrained) for event in read_events(self._journal)[0])


def openings(events: list[Event]) -> int:
    return sum(isinstance(event, OpenedTestPart) for event in events)


def test_a_repeat_of_the_traits_journals_each_opening_before_it_reads(
    demo_tracks: Tracks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = Candidate(
        name="majority",
        study=None,
        model="majority",
        representation="features",
        columns=demo_tracks.columns,
        seed=0,
        config=None,
    )
    task = RepeatTask(
        candidates=(candidate,),
        splits=(stratified_split(demo_tracks, seed=0),),
        todo=((0, 0),),
        tracks=demo_tracks,
        folder=tmp_path,
        device="cpu",
        threads=1,
        merges=True,
        game=FamilyGame(families=families_of(demo_tracks.columns)),
    )
    journal, opened, on_disk = repeat_path(tmp_path, candidate, 0), View.open_test, []

    def watched(view: View, split: Split) -> Part:
        on_disk.append(openings(read_events(journal)[0]))
        return opened(view, split)

    monkeypatch.setattr(View, "open_test", watched)
    do_repeats(task, OnceTrained(journal))
    assert (on_disk, has_ended(read_events(journal)[0])) == ([1], False)
    do_repeats(task, threading.Event())  # it goes on, and reads the part again
    events, _ = read_events(journal)
    assert has_ended(events)
    assert (on_disk, openings(events)) == ([1, 2], 2)
