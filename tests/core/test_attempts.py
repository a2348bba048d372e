"""When a training run whose workers die is given up."""

from pathlib import Path

from harness.core.attempts import Deaths, last_new_epoch
from harness.core.journal import Journal, read_events


def test_only_deaths_without_a_new_epoch_count() -> None:
    deaths = Deaths()
    for new_epoch, count in [(0, 1), (0, 2), (4, 0), (0, 1), (0, 2), (5, 0), (0, 1)]:
        deaths = deaths.add(new_epoch)
        assert deaths.count == count
    assert deaths.epoch == 5


def test_epochs_that_another_machine_had_reached_are_not_new() -> None:
    """A machine that takes a trial over begins a journal of its own, in which each epoch is the first."""
    deaths = Deaths().add(4).add(4).add(3)
    assert deaths == Deaths(count=2, epoch=4)
    assert deaths.reason("out of memory") == (
        "its worker died 2 times in a row without a new epoch, the last time out of memory"
    )


def test_the_last_new_epoch_is_that_of_the_last_attempt(tmp_path: Path) -> None:
    path = tmp_path / "trial.jsonl"
    journal = Journal(path)
    for event, epoch, expected in [
        ("start", 0, 0),
        ("epoch", 1, 1),
        ("epoch", 2, 2),
        ("start", 0, 0),
        ("again", 1, 0),
        ("again", 2, 0),
        ("epoch", 3, 3),
        ("start", 0, 0),
    ]:
        journal.append(event, epoch=epoch)
        assert last_new_epoch(read_events(path)[0]) == expected
    journal.close()
    assert last_new_epoch([]) == 0
