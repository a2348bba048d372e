from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from harness.core.journal import Journal, read_events


def write(path: Path, epochs: int) -> None:
    journal = Journal(path)
    journal.append("start", trial=0)
    for epoch in range(1, epochs + 1):
        journal.append("epoch", epoch=epoch, val_loss=1 / 3 * epoch)
    journal.close()


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
        journal.append("end", state="complete")
        journal.close()
        events, _ = read_events(path)
        assert events[:-1] == whole[:cut_lines]
        assert events[-1]["state"] == "complete"


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
    journal.append("epoch", epoch=1)
    first, offset = read_events(path)
    journal.append("epoch", epoch=2)
    second, end = read_events(path, offset)
    journal.close()
    assert [event["epoch"] for event in first + second] == [1, 2]
    assert end == path.stat().st_size


def test_last_epoch_counts_what_earlier_attempts_wrote(tmp_path: Path) -> None:
    path = tmp_path / "trial-00000.jsonl"
    write(path, 4)
    journal = Journal(path)
    assert journal.last_epoch == 4
    journal.close()
