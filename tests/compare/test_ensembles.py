"""The ensembles of a comparison: what they predict, which networks they train, what an interruption leaves."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.compare.repeats import do_repeats, read_repeat, repeat_path
from harness.compare.run import run_comparison
from harness.core.events import Event, FoldEpochDone, OpenedTestPart, has_ended
from harness.core.journal import read_events
from harness.core.names import derive_seed
from harness.core.records import EpochMetrics, TrialResult
from harness.data import Tracks
from harness.training.run import run_trial
from tests.support.comparisons import by_hand, plan, run_repeat, task_of


def test_an_ensemble_is_the_mean_of_probabilities_and_its_first_member_the_single_network(
    studies: Path, tmp_path: Path, demo_tracks: Tracks
) -> None:
    found = plan(repeats=5, ensemble=3)
    candidate = next(c for c in found.candidates if c.members == 3)
    assert (candidate.name, candidate.study, candidate.is_single) == ("one x3", "one", False)
    assert candidate.config is not None
    events, end = run_repeat(found, candidate, demo_tracks, tmp_path)
    own = derive_seed(candidate.seed, "repeat", 0)
    seeds = [own, *(derive_seed(own, "member", number) for number in (1, 2))]
    split = found.splits[0].merged()
    networks = [by_hand(demo_tracks, split, replace(candidate.config, seed=seed))[0] for seed in seeds]
    assert end.test == tuple(torch.stack(networks).mean(0).argmax(1).tolist())
    assert [type(event) for event in events].count(OpenedTestPart) == 1
    assert {event.fold for event in events if isinstance(event, FoldEpochDone)} == {1, 2, 3}
    _, single = run_repeat(found, found.candidates[0], demo_tracks, tmp_path)
    assert single.test == tuple(networks[0].argmax(1).tolist())


def counting(patch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the folders of the networks that are trained in this process from now on."""
    trained: list[str] = []

    def counted(*arguments: Any, **named: Any) -> TrialResult:
        trained.append(named["folder"].name)
        return run_trial(*arguments, **named)

    patch.setattr("harness.compare.networks.run_trial", counted)
    return trained


def test_an_ensemble_takes_over_the_single_network_of_its_repeat(
    studies: Path, tmp_path: Path, demo_tracks: Tracks, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = plan(repeats=5, ensemble=3, protocol="holdout")
    single, ensemble = found.candidates[0], next(c for c in found.candidates if c.members == 3)
    (tmp_path / "alone").mkdir()
    before, alone = run_repeat(found, ensemble, demo_tracks, tmp_path / "alone")
    trained = counting(monkeypatch)
    task = task_of(found, single, demo_tracks, tmp_path)
    do_repeats(replace(task, candidates=(single, ensemble), todo=((0, 0), (1, 0))), threading.Event())
    assert trained == [repeat_path(tmp_path, single, 0).stem, "member-1", "member-2"]
    repeat = read_repeat(repeat_path(tmp_path, ensemble, 0))
    assert repeat is not None
    events, end = repeat
    assert (end.valid, end.test) == (alone.valid, alone.test)
    assert timeless(events) == timeless(before)
    first = [metrics for fold, metrics in timeless(events) if fold == 1]
    for best in (end.result.best, alone.result.best):
        assert best is not None
        assert replace(best, seconds=0) == max(first, key=lambda m: (m.val_accuracy or 0, -(m.val_loss or 0)))
    assert end.seconds == sum(e.metrics.seconds for e in events if isinstance(e, FoldEpochDone))


def timeless(events: list[Event]) -> list[tuple[int, EpochMetrics]]:
    """The epochs of an ensemble without their seconds."""
    return [(e.fold, replace(e.metrics, seconds=0)) for e in events if isinstance(e, FoldEpochDone)]


@pytest.mark.long
def test_single_networks_come_before_the_ensembles_that_take_them_over(studies: Path) -> None:
    order: list[str] = []
    planned = plan(repeats=5, ensemble=2, baselines=False, untuned=False, jobs=1)
    run_comparison(planned, lambda name, *_: order.append(name))
    assert sorted(order[:10]) == ["one"] * 5 + ["two"] * 5
    assert sorted(order[10:]) == ["one x2"] * 5 + ["two x2"] * 5


class OnceThereIs(threading.Event):
    """Set as soon as a path exists."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def is_set(self) -> bool:
        return self._path.exists()


def test_an_interrupted_ensemble_keeps_the_members_that_it_has(
    studies: Path, tmp_path: Path, demo_tracks: Tracks
) -> None:
    found = plan(repeats=5, ensemble=2)
    candidate = next(c for c in found.candidates if c.members == 2)
    journal = repeat_path(tmp_path, candidate, 0)
    do_repeats(task_of(found, candidate, demo_tracks, tmp_path), OnceThereIs(journal.with_suffix("") / "member-0"))
    events, _ = read_events(journal)
    assert not has_ended(events)
    assert {event.fold for event in events if isinstance(event, FoldEpochDone)} == {1}
    assert not any(isinstance(event, OpenedTestPart) for event in events)
    first = journal.with_suffix("") / "member-0" / "checkpoint" / "model.safetensors"
    assert first.is_file()
    with pytest.MonkeyPatch.context() as patch:
        trained = counting(patch)
        events, end = run_repeat(found, candidate, demo_tracks, tmp_path)
    assert trained == ["member-1"]
    assert {event.fold for event in events if isinstance(event, FoldEpochDone)} == {1, 2}
    (tmp_path / "whole").mkdir()
    assert run_repeat(found, candidate, demo_tracks, tmp_path / "whole")[1].test == end.test
