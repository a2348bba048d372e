import json
import zlib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import StudyError
from harness.core.events import (
    Acknowledged,
    Ended,
    EpochDone,
    EpochRepeated,
    Event,
    FoldEnded,
    FoldEpochDone,
    OpenedTestPart,
    RepeatEnded,
    RepeatStarted,
    Resumed,
    ResumeSaved,
    SubsetTrained,
    TrialStarted,
    from_line,
    has_ended,
    to_line,
)
from harness.core.journal import Journal, check_journals, read_events
from harness.core.records import EpochMetrics, TrialConfig, TrialResult
from harness.core.space import Params

PARAMS: Params = {"lr": 0.001, "batch_size": 32, "optimizer": "adam"}
CONFIG = TrialConfig(model="fcnn", params=PARAMS, epochs=8, seed=3, threads=1)
COMPLETE = TrialResult(state="complete", best=EpochMetrics(2, 0.5, 1 / 3, 0.25, 0.125))
EVENTS: list[Event] = [
    TrialStarted(trial=3, sweep="s", config=CONFIG, resumed=False, device="cpu", gpu=None, total=9),
    RepeatStarted(
        candidate="cnn", repeat=1, seed=5, config=CONFIG, split="a", split_digest="d", device="cpu", threads=2
    ),
    RepeatStarted(
        candidate="svm", repeat=1, seed=5, config=None, split="a", split_digest="d", device="cpu", threads=2
    ),
    EpochDone(metrics=EpochMetrics(1, 0.5, 1 / 3, 0.25, 0.125)),
    EpochDone(metrics=EpochMetrics(1, 0.5, None, None, 0.125)),
    EpochDone(metrics=EpochMetrics(1, 0.5, 1 / 3, 0.25, 0.125), std=0.1),
    FoldEpochDone(fold=2, metrics=EpochMetrics(1, 0.5, 1 / 3, 0.25, 0.125)),
    FoldEnded(fold=2),
    EpochRepeated(metrics=EpochMetrics(1, 0.5, 1 / 3, 0.25, 0.125)),
    Resumed(epoch=4),
    ResumeSaved(epoch=5),
    OpenedTestPart(),
    SubsetTrained(subset="set/3", guesses=(0, 2, 1), seconds=0.25, diverged=True),
    Ended(result=COMPLETE),
    Ended(result=replace(COMPLETE, folds=(0.5, 0.0))),
    Ended(result=TrialResult(state="failed", best=None, reason="\u2028 \n no"), mended="why"),
    RepeatEnded(result=COMPLETE, seconds=1.5, valid=(0, 1), test=(2,)),
    Acknowledged(),
]


def epoch(number: int) -> EpochDone:
    return EpochDone(metrics=EpochMetrics(number, 1.0, 1 / 3 * number, 0.5, 0.1))


def write(path: Path, epochs: int) -> None:
    journal = Journal(path)
    journal.append(EVENTS[0])
    for number in range(1, epochs + 1):
        journal.append(epoch(number))
    journal.close()


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_from_its_line(event: Event) -> None:
    line = to_line(event)
    assert line.count(b"\n") == 1
    assert from_line(line) == event
    assert event.time > 1_600_000_000_000


def test_every_event_is_among_those_tested() -> None:
    assert {type(event) for event in EVENTS} == set(Event.__args__)


@pytest.mark.parametrize(
    "record",
    [
        {"event": "unheard of", "time": 1},
        {"event": "saved", "time": 1, "epoch": 1, "more": 2},
        {"event": "saved", "time": 1},
        {"event": "end", "time": 1, "mended": None, "result": {"state": "complete"}},
        {"time": 1},
        [],
    ],
)
def test_a_whole_line_that_is_no_known_event_is_damaged(record: object) -> None:
    body = json.dumps(record).encode()
    assert from_line(b"%08x %s\n" % (zlib.crc32(body), body)) is None


@given(epochs=st.integers(0, 8), cut=st.integers(0, 400))
def test_a_journal_cut_anywhere_goes_on_from_its_last_whole_line(epochs: int, cut: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trial-00000.jsonl"
        write(path, epochs)
        whole, _ = read_events(path)
        path.write_bytes(path.read_bytes()[:cut])
        cut_lines = path.read_bytes().count(b"\n")
        journal = Journal(path)
        assert journal.events == whole[:cut_lines]
        end = Ended(result=COMPLETE)
        journal.append(end)
        journal.close()
        events, _ = read_events(path)
        assert events == [*whole[:cut_lines], end]


@given(position=st.integers(0, 1000), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed(position: int, bit: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trial-00000.jsonl"
        write(path, 5)
        whole, _ = read_events(path)
        content = bytearray(path.read_bytes())
        content[position % len(content)] ^= 1 << bit
        path.write_bytes(content)
        events, _ = read_events(path)
        assert events == whole[: len(events)]
        assert len(events) < len(whole)


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "trial-00003.jsonl"
    assert read_events(path) == ([], 0)
    journal = Journal(path)
    journal.append(epoch(1))
    first, offset = read_events(path)
    journal.append(epoch(2))
    second, end = read_events(path, offset)
    assert first + second == journal.events
    journal.close()
    assert end == path.stat().st_size


def test_last_epoch_counts_what_earlier_attempts_wrote(tmp_path: Path) -> None:
    path = tmp_path / "trial-00000.jsonl"
    write(path, 4)
    journal = Journal(path)
    journal.append(EpochRepeated(metrics=EpochMetrics(2, 1.0, 1.0, 0.5, 0.1)))
    assert journal.last_epoch == 4
    journal.close()


def test_an_interrupted_run_has_not_ended() -> None:
    interrupted = TrialResult(state="interrupted", best=None)
    assert not has_ended([])
    assert not has_ended([EVENTS[0], epoch(1)])
    assert not has_ended([EVENTS[0], Ended(result=interrupted)])
    assert not has_ended([RepeatEnded(result=interrupted, seconds=1.0)])
    assert has_ended([EVENTS[0], Ended(result=COMPLETE)])
    assert has_ended([Ended(result=COMPLETE), Acknowledged()])


def test_a_folder_with_the_name_of_a_journal_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "trial-00001.jsonl").touch()
    (tmp_path / "trial-00002.jsonl").mkdir()
    check_journals(tmp_path, 2)
    with pytest.raises(StudyError, match=r"trial-00002\.jsonl has the name of a trial's journal"):
        check_journals(tmp_path, 3)
