"""Deaths of workers at a comparison's repeats."""

from pathlib import Path

from harness.compare.repeats import RepeatDeaths
from harness.core.events import EpochDone, RepeatStarted
from harness.core.files import FileLock
from harness.core.journal import Journal
from harness.core.records import EpochMetrics


def attempt(folder: Path, name: str, worker: str, *epochs: int) -> None:
    """What a worker leaves that dies at a repeat: its name in the lock file, the epochs in the journal."""
    lock = FileLock(folder / f"{name}.lock")
    assert lock.acquire(wait=False)
    lock.annotate(worker)
    lock.release()
    journal = Journal(folder / f"{name}.jsonl")
    journal.append(
        RepeatStarted(
            candidate="cnn", repeat=7, seed=0, config=None, split="s", split_digest="d", device="cpu", threads=1
        )
    )
    for epoch in epochs:
        journal.append(EpochDone(metrics=EpochMetrics(epoch, 1.0, 1.0, 0.5, 0.1)))
    journal.close()


def test_a_repeat_is_given_up_after_three_deaths_without_a_new_epoch(tmp_path: Path) -> None:
    deaths = RepeatDeaths(tmp_path)
    for number, epochs in enumerate([(), (), (1, 2), (), ()]):
        attempt(tmp_path, "repeat-a", f"worker {number}", *epochs)
        assert deaths.add(f"worker {number}", "killed by SIGKILL") == (True, None)
    attempt(tmp_path, "repeat-b", "worker 9")  # of another repeat: counted for itself
    assert deaths.add("worker 9", "out of memory") == (True, None)
    attempt(tmp_path, "repeat-a", "worker 5")
    reason = (
        "repeat 7 of cnn: its worker died 3 times in a row without a new epoch, the last time killed by SIGKILL"
    )
    assert deaths.add("worker 5", "killed by SIGKILL") == (True, reason)


def test_a_worker_that_was_at_no_repeat(tmp_path: Path) -> None:
    attempt(tmp_path, "repeat-a", "another")
    assert RepeatDeaths(tmp_path).add("worker", "killed by SIGKILL") == (False, None)
